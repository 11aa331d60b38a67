"""Looks for a process of the host by the id that it has there, also where no listing shows it.

layers: pid-namespace
"""
from attack import *

with open(f"/proc/{witness('PID')}/cmdline", "rb") as file:
    line = file.read()
through(line) if b"witness" in line else stopped("another process")
