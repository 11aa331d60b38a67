"""Gives its own writable file system another size with fspick(2) and fsconfig(2).

layers: seccomp, landlock, capabilities
"""
from attack import *

AT_FDCWD, FSCONFIG_SET_STRING, FSCONFIG_CMD_RECONFIGURE = -100, 1, 7
context = syscall("fspick", AT_FDCWD, b"/job", 0)
if context < 0:
    stopped()
syscall("fsconfig", context, FSCONFIG_SET_STRING, b"size", b"1g", 0)
tried(syscall("fsconfig", context, FSCONFIG_CMD_RECONFIGURE, None, None, 0), "/job has 1 GiB")
