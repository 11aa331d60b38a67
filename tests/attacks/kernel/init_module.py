"""Loads a kernel module; an empty one, which is none.

layers: seccomp, kernel
"""
from attack import *

result = syscall("init_module", None, 0, b"")
tried(result, "a module", past=["ENOEXEC", "EFAULT"], missing=["ENOSYS"])
