"""Makes a user namespace with unshare(2), in which it would have every capability.

layers: seccomp
"""
from attack import *

CLONE_NEWUSER = 0x10000000
tried(syscall("unshare", CLONE_NEWUSER), "a user namespace")
