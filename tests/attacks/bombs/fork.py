"""Starts more processes than it was given, side by side.

layers: cgroups, rlimits
options: --pids 32
"""
import signal

from attack import *

alive = []
try:
    while len(alive) < 64:
        child = os.fork()
        if child == 0:
            signal.alarm(8)
            signal.pause()
        alive.append(child)
except BlockingIOError:
    pass
for child in alive:
    os.kill(child, signal.SIGKILL)
through(f"{len(alive)} children at once") if len(alive) > 32 else stopped(f"{len(alive)} children")
