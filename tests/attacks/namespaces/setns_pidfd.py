"""Joins the namespaces of the cell's PID 1 by its pidfd.

layers: seccomp, landlock, init, capabilities
"""
from attack import *

CLONE_NEWUTS, CLONE_NEWNET = 0x04000000, 0x40000000
file = syscall("pidfd_open", init(), 0)
if file < 0:
    stopped()
tried(syscall("setns", file, CLONE_NEWUTS | CLONE_NEWNET), "namespaces of PID 1")
