"""Looks for a process of the host in /proc.

layers: pid-namespace
"""
from attack import *

pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
for pid in pids:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as line:
            words = line.read()
    except OSError:
        continue
    if pid != os.getpid() and b"witness" in words:
        through(f"process {pid} of the host: {words}")
if len(pids) > 2:
    through(f"{len(pids)} processes, where only PID 1 and this one should be")
stopped(f"processes {pids}")
