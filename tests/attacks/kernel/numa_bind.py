"""Chooses the memory nodes of one page, against the placement of the host.

layers: seccomp
"""
from attack import *

MPOL_DEFAULT = 0
page = mmap.mmap(-1, 4096)
start = address(ctypes.c_char.from_buffer(page))
tried(syscall("mbind", start, 4096, MPOL_DEFAULT, None, 0, 0), "a policy", missing=["ENOSYS"])
