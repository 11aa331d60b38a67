"""Watches the devices of the host, by the counts of their interrupts: keys pressed, packets received.

layers: masks
"""
from attack import *

with open("/proc/interrupts") as file:
    lines = file.read().splitlines()
through(lines[1]) if len(lines) > 1 else stopped("it is empty")
