"""Takes away what makes /proc/sys read-only.

layers: seccomp, landlock, capabilities
"""
from attack import *

MNT_DETACH = 2
tried(syscall("umount2", b"/proc/sys", MNT_DETACH), "/proc/sys bare")
