"""Makes a user namespace with unshare(2), in which it would have every capability.

layers: seccomp
"""
from attack import *

CLONE_NEWUSER = 0x10000000
through("in a user namespace of its own") if syscall("unshare", CLONE_NEWUSER) == 0 else stopped()
