"""Asks for the means to move the marks of its memory map (PR_SET_MM), which hides what it is.

layers: seccomp
"""
from attack import *

PR_SET_MM, PR_SET_MM_MAP_SIZE = 35, 15
size = ctypes.c_uint()
result = syscall("prctl", PR_SET_MM, PR_SET_MM_MAP_SIZE, ctypes.byref(size), 0, 0)
tried(result, "the means", missing=["EINVAL"])
