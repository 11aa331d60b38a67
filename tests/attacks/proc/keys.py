"""Reads which keys the kernel holds for whom.

layers: masks, user-namespace, kernel
"""
from attack import *

with open("/proc/keys") as file:
    text = file.read()
through(text) if text else stopped("it is empty")
