"""Gives the kernel swap space; a file that does not exist.

layers: seccomp, kernel
"""
from attack import *

tried(syscall("swapon", b"/nonexistent", 0), "swap space", past=["ENOENT"])
