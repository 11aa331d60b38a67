"""Makes an IPC namespace with unshare(2).

layers: seccomp, capabilities
"""
from attack import *

CLONE_NEWIPC = 0x08000000
tried(syscall("unshare", CLONE_NEWIPC), "an IPC namespace")
