"""Unloads a kernel module; one that does not exist.

layers: seccomp, kernel
"""
from attack import *

tried(syscall("delete_module", b"no_such_module", os.O_NONBLOCK), "unloaded", past=["ENOENT"], missing=["ENOSYS"])
