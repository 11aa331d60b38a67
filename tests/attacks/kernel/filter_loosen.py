"""Installs a seccomp filter that allows everything, and then makes a user namespace.

layers: seccomp
"""
from attack import *

SECCOMP_SET_MODE_FILTER, CLONE_NEWUSER = 1, 0x10000000
syscall("seccomp", SECCOMP_SET_MODE_FILTER, 0, filter_that_allows())
tried(syscall("unshare", CLONE_NEWUSER), "the newer filter won")
