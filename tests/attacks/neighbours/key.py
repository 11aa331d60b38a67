"""Finds a key in the keyring that all processes of a user share.

layers: seccomp, user-namespace, users
neighbour: _key.py
"""
from attack import *

KEYCTL_SEARCH, KEY_SPEC_USER_KEYRING = 10, -4
key = syscall("keyctl", KEYCTL_SEARCH, KEY_SPEC_USER_KEYRING, b"user", b"neighbour", 0)
through(f"key {key}") if key >= 0 else stopped()
