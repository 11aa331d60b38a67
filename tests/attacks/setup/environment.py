"""Looks for the caller's own environment, in its own and in that of every process it sees.

layers: init
"""
from attack import *

if "WITNESS_SECRET" in os.environ:
    through(os.environ["WITNESS_SECRET"])
pids = [name for name in os.listdir("/proc") if name.isdigit()]
for pid in pids:
    try:
        with open(f"/proc/{pid}/environ", "rb") as environment:
            if b"WITNESS_SECRET" in environment.read():
                through(f"the environment of process {pid}")
    except OSError:
        pass
stopped(f"in none of {pids}")
