"""Reads where in the host's tree of control groups it stands.

layers: cgroup-namespace
"""
from attack import *

with open("/proc/self/cgroup") as file:
    paths = {line.strip().split(":", 2)[2] for line in file}
through(paths) if paths - {"/"} else stopped("at the root of its own")
