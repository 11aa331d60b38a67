"""Takes /usr away with umount2(2).

layers: seccomp, landlock, capabilities
"""
from attack import *

MNT_DETACH = 2
tried(syscall("umount2", b"/usr", MNT_DETACH), "no /usr")
