"""Asks for every port of the processor.

layers: seccomp, kernel
needs: x86_64
"""
from attack import *

tried(syscall("iopl", 3), "all ports", missing=["ENOSYS"])
