"""Puts its disk accesses before everybody else's: the realtime class.

layers: kernel
"""
from attack import *

IOPRIO_WHO_PROCESS, REALTIME = 1, 1 << 13
number = 251 if ARCH == "x86_64" else 30
through("realtime disk accesses") if libc.syscall(number, IOPRIO_WHO_PROCESS, 0, REALTIME) == 0 else stopped()
