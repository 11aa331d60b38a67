"""Makes a process that shares its table of descriptors (CLONE_FILES): its POSIX locks then outlive it, under a process
id that the kernel gives to another job's process.

layers: seccomp
"""
from attack import *

CLONE_FILES, SIGCHLD = 0x400, 17
pid = syscall("clone", CLONE_FILES | SIGCHLD, 0, 0, 0, 0)
if pid == 0:
    os._exit(0)
through("a process with the same descriptors") if pid > 0 else stopped()
