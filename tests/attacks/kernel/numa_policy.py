"""Chooses the memory nodes of its process, against the placement of the host.

layers: seccomp
"""
from attack import *

MPOL_DEFAULT = 0
tried(syscall("set_mempolicy", MPOL_DEFAULT, None, 0), "a policy", missing=["ENOSYS"])
