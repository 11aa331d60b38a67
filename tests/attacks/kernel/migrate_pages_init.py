"""Moves the memory of the cell's PID 1 between nodes; here to where it is.

layers: seccomp, landlock, init
"""
from attack import *

nodes = ctypes.c_ulong(1)
here = ctypes.byref(nodes)
tried(syscall("migrate_pages", init(), 64, here, here), "pages of PID 1", missing=["ENOSYS"])
