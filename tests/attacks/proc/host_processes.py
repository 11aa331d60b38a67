"""Finds processes of the host in /proc, and reads their command lines.

layers: pid-namespace
"""
import glob

from attack import *

for path in glob.glob("/proc/[0-9]*/cmdline"):
    try:
        with open(path, "rb") as file:
            line = file.read()
    except OSError:
        continue
    if b"witness" in line:
        through(f"{path}: {line}")
stopped(f"none among {len(glob.glob('/proc/[0-9]*'))} processes")
