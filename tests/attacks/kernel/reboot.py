"""Calls reboot(2), with a magic number that is wrong. Root of its own PID namespace could end that.

layers: seccomp, capabilities
"""
from attack import *

tried(syscall("reboot", 0, 0, 0, None), "a reboot", past=["EINVAL"])
