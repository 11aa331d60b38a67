"""Searches the keyrings with request_key(2); without callout data, so that no helper is started.

layers: seccomp
"""
from attack import *

KEY_SPEC_DEFAULT = 0
tried(syscall("request_key", b"user", b"attack", None, KEY_SPEC_DEFAULT), "found", past=["ENOKEY"])
