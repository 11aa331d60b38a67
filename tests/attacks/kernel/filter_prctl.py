"""Installs a seccomp filter that allows everything, by prctl(2), and then joins a keyring.

layers: seccomp
"""
from attack import *

PR_SET_SECCOMP, SECCOMP_MODE_FILTER, KEYCTL_JOIN_SESSION_KEYRING = 22, 2, 1
syscall("prctl", PR_SET_SECCOMP, SECCOMP_MODE_FILTER, filter_that_allows(), 0, 0)
tried(syscall("keyctl", KEYCTL_JOIN_SESSION_KEYRING, None), "the newer filter won")
