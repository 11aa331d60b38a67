"""Asks for its own page faults, a favourite tool for winning races in the kernel.

layers: seccomp
"""
from attack import *

UFFD_USER_MODE_ONLY = 1
tried(syscall("userfaultfd", UFFD_USER_MODE_ONLY), "a userfaultfd")
