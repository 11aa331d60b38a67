"""Makes a PID namespace with unshare(2), in which a child of its own would be PID 1.

layers: seccomp, capabilities
"""
from attack import *

CLONE_NEWPID = 0x20000000
tried(syscall("unshare", CLONE_NEWPID), "a PID namespace")
