"""Makes itself a session keyring with keyctl(2), whose code has a long record (CVE-2016-0728).

layers: seccomp
"""
from attack import *

KEYCTL_JOIN_SESSION_KEYRING = 1
tried(syscall("keyctl", KEYCTL_JOIN_SESSION_KEYRING, None), "a session keyring")
