"""Unloads a kernel module; one that does not exist.

layers: seccomp, kernel
"""
from attack import *

result = syscall("delete_module", b"no_such_module", os.O_NONBLOCK)
tried(result, "unloaded", past=["ENOENT"], missing=["ENOSYS"])
