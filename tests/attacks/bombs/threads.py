"""Starts more threads than it was given processes.

layers: cgroups, rlimits
options: --pids 32
"""
import threading

from attack import *

never = threading.Event()
count = 0
try:
    while count < 64:
        threading.Thread(target=never.wait, daemon=True).start()
        count += 1
except RuntimeError:
    pass
through(f"{count} threads at once") if count > 32 else stopped(f"{count} threads")
