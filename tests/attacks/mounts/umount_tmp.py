"""Takes the limited file system at /tmp away, and looks whether what is below can be written.

layers: seccomp, landlock, capabilities
"""
from attack import *

MNT_DETACH = 2
tried(syscall("umount2", b"/tmp", MNT_DETACH), "/tmp bare")
