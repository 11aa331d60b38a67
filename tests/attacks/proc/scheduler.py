"""Reads names and loads of all processes of the host, from files that kernels before 5.13 still have.

layers: masks
"""
from attack import *

for name in ("sched_debug", "timer_stats", "latency_stats"):
    try:
        with open(f"/proc/{name}") as file:
            if text := file.read(100):
                through(text)
    except FileNotFoundError:
        pass
stopped("nothing is there")
