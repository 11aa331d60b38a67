"""Asks for one port of the processor.

layers: seccomp, kernel
needs: x86_64
"""
from attack import *

POST_CODES = 0x80
tried(syscall("ioperm", POST_CODES, 1, 1), "a port", missing=["ENOSYS"])
