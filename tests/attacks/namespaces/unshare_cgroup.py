"""Makes a cgroup namespace with unshare(2).

layers: seccomp, capabilities
"""
from attack import *

CLONE_NEWCGROUP = 0x02000000
tried(syscall("unshare", CLONE_NEWCGROUP), "a cgroup namespace")
