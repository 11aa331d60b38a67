"""Reads the list of System V segments, and looks for the host's.

layers: ipc-namespace
"""
from attack import *

with open("/proc/sysvipc/shm") as file:
    keys = [line.split()[0] for line in list(file)[1:]]
through(f"the host's is among {keys}") if witness("SHM") in keys else stopped(f"not among {keys}")
