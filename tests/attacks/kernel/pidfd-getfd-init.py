"""Takes the line to the engine, descriptor 3, out of the cell's PID 1.

layers: seccomp, landlock, init
"""
from attack import *

init = syscall("pidfd_open", 1, 0)
if init < 0:
    stopped()
tried(syscall("pidfd_getfd", init, 3, 0), "a descriptor of PID 1", past=["EBADF"])
