"""Looks for a descriptor that the sandbox forgot to close, such as the caller's 9.

layers: descriptors
"""
from attack import *

for number in range(3, 1024):
    try:
        os.fstat(number)
    except OSError:
        continue
    through(f"descriptor {number} is {os.readlink(f'/proc/self/fd/{number}')}")
stopped("only 0, 1 and 2 are open")
