"""Puts itself behind its service when the host runs out of memory: an oom_score_adj below the given one.

layers: landlock, kernel
needs: cloister
"""
from attack import *

with open("/proc/self/oom_score_adj") as file:
    given = int(file.read())
with open("/proc/self/oom_score_adj", "w") as file:
    file.write(str(given - 1))
through(f"from {given} to {given - 1}")
