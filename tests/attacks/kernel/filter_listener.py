"""Installs a seccomp filter with a listener, by which it would answer the calls of other processes.

layers: seccomp
"""
from attack import *

SECCOMP_SET_MODE_FILTER, NEW_LISTENER = 1, 8
result = syscall("seccomp", SECCOMP_SET_MODE_FILTER, NEW_LISTENER, filter_that_allows())
tried(result, "a listener")
