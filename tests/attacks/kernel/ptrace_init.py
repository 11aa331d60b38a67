"""Traces the cell's PID 1, which is a copy of the launcher.

layers: seccomp, landlock, init
"""
from attack import *

PTRACE_SEIZE = 0x4206
tried(syscall("ptrace", PTRACE_SEIZE, init(), 0, 0), "PID 1 is traced")
