"""Asks where the memory of the cell's PID 1 lies; with nodes, it would be moved.

layers: seccomp, landlock, init
"""
from attack import *

pages = (ctypes.c_void_p * 1)(0x1000)
status = (ctypes.c_int * 1)()
tried(syscall("move_pages", 1, 1, pages, None, status, 0), "pages of PID 1", missing=["ENOSYS"])
