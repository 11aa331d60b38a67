"""Tunes the clock by the newer call; to a tick that is out of range.

layers: seccomp, kernel
"""
from attack import *

CLOCK_REALTIME, ADJ_TICK = 0, 0x4000
timex = ctypes.create_string_buffer(struct.pack("I", ADJ_TICK), 208)
tried(syscall("clock_adjtime", CLOCK_REALTIME, timex), "the clock", past=["EINVAL"])
