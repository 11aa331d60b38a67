"""Reads a neighbour's files and memory through /proc.

layers: pid-namespace, users, landlock
neighbour: _waits.py
"""
from attack import *

mine = {1, os.getpid()}
for process in sorted(int(name) for name in os.listdir("/proc") if name.isdigit()):
    if process in mine:
        continue
    for name in ("environ", "maps", "mem", "root/proc/version", "cwd/../proc/version"):
        try:
            with open(f"/proc/{process}/{name}", "rb") as file:
                # A kernel thread's can be opened by all, and are empty.
                if file.read(16):
                    through(f"{file.name} can be read")
        except OSError:
            pass
stopped("nobody's can be read")
