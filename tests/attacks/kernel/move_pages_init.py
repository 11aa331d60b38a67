"""Asks where the memory of the cell's PID 1 lies; with nodes, it would be moved.

layers: seccomp, landlock, init
"""
from attack import *

pages = (ctypes.c_void_p * 1)(0x1000)
status = (ctypes.c_int * 1)()
result = syscall("move_pages", init(), 1, pages, None, status, 0)
tried(result, "pages of PID 1", missing=["ENOSYS"])
