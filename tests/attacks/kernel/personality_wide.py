"""The page at address 0 (MMAP_PAGE_ZERO), by a number whose upper half the kernel ignores.

layers: seccomp
"""
from attack import *

MMAP_PAGE_ZERO = 0x0100000
tried(syscall("personality", 1 << 32 | MMAP_PAGE_ZERO), "that personality")
