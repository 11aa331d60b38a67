"""Learns where in the host's hierarchies the cell is.

layers: cgroup-namespace
"""
from attack import *

with open("/proc/self/cgroup") as groups:
    paths = {line.rstrip("\n").split(":", 2)[2] for line in groups}
through(", ".join(sorted(paths))) if paths != {"/"} else stopped("each is /")
