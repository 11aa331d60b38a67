"""Joins the namespaces of the cell's PID 1 by its pidfd.

layers: seccomp, landlock, init, capabilities
"""
from attack import *

CLONE_NEWUTS, CLONE_NEWNET = 0x04000000, 0x40000000
init = syscall("pidfd_open", 1, 0)
if init < 0:
    stopped()
tried(syscall("setns", init, CLONE_NEWUTS | CLONE_NEWNET), "namespaces of PID 1")
