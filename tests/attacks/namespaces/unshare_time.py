"""Makes a time namespace with unshare(2), with clocks that are off.

layers: seccomp, capabilities
"""
from attack import *

CLONE_NEWTIME = 0x00000080
tried(syscall("unshare", CLONE_NEWTIME), "a time namespace")
