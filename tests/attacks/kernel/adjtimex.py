"""Tunes the clock; to a tick that is out of range.

layers: seccomp, kernel
"""
from attack import *

ADJ_TICK = 0x4000
timex = ctypes.create_string_buffer(struct.pack("I", ADJ_TICK), 208)
tried(syscall("adjtimex", timex), "the clock", past=["EINVAL"])
