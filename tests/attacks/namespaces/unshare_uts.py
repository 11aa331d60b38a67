"""Makes a UTS namespace with unshare(2).

layers: seccomp, capabilities
"""
from attack import *

CLONE_NEWUTS = 0x04000000
tried(syscall("unshare", CLONE_NEWUTS), "a UTS namespace")
