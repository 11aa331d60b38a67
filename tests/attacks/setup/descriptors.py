"""Looks for descriptors beside the three that it was given (CVE-2024-21626).

layers: descriptors
"""
import os

# Before anything else is opened. A number is free if it is refused.
found = {}
for number in range(3, 1024):
    try:
        found[number] = os.readlink(f"/proc/self/fd/{number}")
    except OSError:
        pass

from attack import *

through(found) if found else stopped("0, 1 and 2 only")
