"""Reserves nine tenths of a core as a deadline process.

layers: kernel
"""
import struct

from attack import *

SCHED_DEADLINE = 6
number = 314 if ARCH == "x86_64" else 274
attributes = struct.pack("IIQiIQQQ", 48, SCHED_DEADLINE, 0, 0, 0, 9_000_000, 10_000_000, 10_000_000)
if libc.syscall(number, 0, ctypes.create_string_buffer(attributes), 0) == 0:
    through("a deadline process")
stopped()
