"""Asks for a path by its cookie, as profilers once did.

layers: seccomp, kernel
"""
from attack import *

path = ctypes.create_string_buffer(4096)
tried(syscall("lookup_dcookie", 1, path, 4096), "a path", past=["EINVAL"], missing=["ENOSYS"])
