"""Gives its own writable file system another size with mount(2).

layers: seccomp, landlock, capabilities
"""
from attack import *

MS_REMOUNT = 0x20
tried(syscall("mount", None, b"/job", None, MS_REMOUNT, b"size=1g"), "/job has 1 GiB")
