"""Looks for a process in the cell that has no seccomp filter.

layers: seccomp
"""
from attack import *

pids = [name for name in os.listdir("/proc") if name.isdigit()]
for pid in pids:
    with open(f"/proc/{pid}/status") as status:
        if "Seccomp:\t2" not in status.read():
            through(f"process {pid} has no filter")
stopped(f"all of {pids} have one")
