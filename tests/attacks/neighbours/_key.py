"""Puts a key into its user's keyring, where the kernel lets it.

layers: none
"""
import signal

from attack import *

KEY_SPEC_USER_KEYRING = -4
syscall("add_key", b"user", b"neighbour", b"secret", 6, KEY_SPEC_USER_KEYRING)
print("ready", flush=True)
signal.pause()
