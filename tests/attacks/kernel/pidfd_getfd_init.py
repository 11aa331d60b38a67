"""Takes the line to the engine, descriptor 3, out of the cell's PID 1.

layers: seccomp, landlock, init
"""
from attack import *

file = syscall("pidfd_open", init(), 0)
if file < 0:
    stopped()
tried(syscall("pidfd_getfd", file, 3, 0), "a descriptor of PID 1", past=["EBADF"])
