"""Stores a key in the kernel, where no limit of the cell counts it.

layers: seccomp
"""
from attack import *

KEY_SPEC_PROCESS_KEYRING = -2
tried(syscall("add_key", b"user", b"attack", b"secret", 6, KEY_SPEC_PROCESS_KEYRING), "a key")
