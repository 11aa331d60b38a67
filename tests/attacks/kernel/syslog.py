"""Reads the kernel's log. Where kernel.dmesg_restrict=0, every user may.

layers: seccomp, kernel
"""
from attack import *

SYSLOG_ACTION_READ_ALL = 3
text = ctypes.create_string_buffer(4096)
tried(syscall("syslog", SYSLOG_ACTION_READ_ALL, text, 4096), "the log")
