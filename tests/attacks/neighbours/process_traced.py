"""Attaches to every process that it finds as a debugger.

layers: pid-namespace, users, landlock, seccomp
neighbour: _waits.py
"""
from attack import *

PTRACE_SEIZE = 0x4206
for process in sorted(int(name) for name in os.listdir("/proc") if name.isdigit()):
    if process not in (1, os.getpid()) and syscall("ptrace", PTRACE_SEIZE, process, 0, 0) == 0:
        through(f"process {process} is traced")
stopped("nobody was traced")
