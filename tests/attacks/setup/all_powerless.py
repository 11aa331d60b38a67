"""Looks for a process in the cell that has a capability.

layers: capabilities
"""
from attack import *

pids = [name for name in os.listdir("/proc") if name.isdigit()]
for pid in pids:
    with open(f"/proc/{pid}/status") as status:
        sets = dict(line.split() for line in status if line.startswith("Cap"))
    if any(int(mask, 16) for mask in sets.values()):
        through(f"process {pid} has {sets}")
stopped(f"none of {pids} has any")
