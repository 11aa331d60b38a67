"""Reads names and loads of all processes of the host, from files that kernels before 5.13 still have.

layers: masks
"""
from attack import *

found = False
for name in ("sched_debug", "timer_stats", "latency_stats"):
    try:
        with open(f"/proc/{name}") as file:
            if text := file.read(100):
                through(text)
        found = True
    except FileNotFoundError:
        pass
stopped("all are empty") if found else absent("a kernel without them")
