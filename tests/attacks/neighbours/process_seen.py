"""Reads a neighbour's command line in /proc.

layers: pid-namespace
neighbour: _waits.py
"""
import glob

from attack import *

for path in glob.glob("/proc/[0-9]*/cmdline"):
    try:
        with open(path, "rb") as file:
            line = file.read()
    except OSError:
        continue
    if b"_waits.py" in line:
        through(f"{path}: {line}")
stopped("not seen")
