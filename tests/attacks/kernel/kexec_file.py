"""Loads another kernel from a file; with flags that do not exist, so that none is loaded.

layers: seccomp, kernel
"""
from attack import *

NO_SUCH_FLAG = 0x8000
result = syscall("kexec_file_load", -1, -1, 0, None, NO_SUCH_FLAG)
tried(result, "a kernel", past=["EINVAL", "EBADF"], missing=["ENOSYS"])
