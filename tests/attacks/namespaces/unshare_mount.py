"""Makes a mount namespace with unshare(2), to change what is mounted.

layers: seccomp, capabilities
"""
from attack import *

CLONE_NEWNS = 0x00020000
tried(syscall("unshare", CLONE_NEWNS), "a mount namespace")
