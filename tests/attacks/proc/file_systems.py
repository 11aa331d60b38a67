"""Reads what the kernel tells of the host's file systems: devices, errors, unused space, journals.

layers: masks
"""
from attack import *

try:
    entries = [f"{folder}/{name}" for folder, folders, files in os.walk("/proc/fs") for name in folders + files]
except FileNotFoundError:
    absent("the kernel has no /proc/fs")
through(entries[:5]) if entries else stopped("it is empty")
