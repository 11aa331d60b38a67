"""Reads which keys the kernel holds for its user, those of other jobs included where they share one.

layers: masks, users
"""
from attack import *

with open("/proc/keys") as file:
    text = file.read()
through(text.splitlines()) if text else stopped("it is empty")
