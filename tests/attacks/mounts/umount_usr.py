"""Takes /usr away with umount2(2). It is locked to a lesser user namespace.

layers: seccomp, landlock, capabilities, user-namespace
"""
from attack import *

MNT_DETACH = 2
tried(syscall("umount2", b"/usr", MNT_DETACH), "no /usr")
