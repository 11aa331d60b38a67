"""Loads a kernel module from a file that is not open.

layers: seccomp, kernel
"""
from attack import *

result = syscall("finit_module", -1, b"", 0)
tried(result, "a module", past=["EBADF", "ENOEXEC"], missing=["ENOSYS"])
