"""Loads a kernel module; an empty one, which is none.

layers: seccomp, kernel
"""
from attack import *

tried(syscall("init_module", None, 0, b""), "a module", past=["ENOEXEC", "EFAULT"], missing=["ENOSYS"])
