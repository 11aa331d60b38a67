"""Takes swap space from the kernel; a file that does not exist.

layers: seccomp, kernel
"""
from attack import *

tried(syscall("swapoff", b"/nonexistent"), "swap space", past=["ENOENT"])
