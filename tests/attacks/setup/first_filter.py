"""Looks, as the first thing it does, whether the seccomp filter is there.

layers: seccomp
"""
status = open("/proc/self/status").read()

from attack import *

mode = next(line.split()[1] for line in status.splitlines() if line.startswith("Seccomp:"))
stopped("mode 2") if mode == "2" else through(f"seccomp mode {mode}")
