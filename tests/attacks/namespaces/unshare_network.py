"""Makes a network namespace with unshare(2), with interfaces and firewalls of its own.

layers: seccomp, capabilities
"""
from attack import *

CLONE_NEWNET = 0x40000000
tried(syscall("unshare", CLONE_NEWNET), "a network namespace")
