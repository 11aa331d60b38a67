"""Reads System V shared memory of the host, which everybody may.

layers: ipc-namespace
"""
from attack import *

SHM_RDONLY = 0o10000
id = syscall("shmget", int(witness("SHM")), 0, 0)
if id < 0:
    stopped()
tried(syscall("shmat", id, None, SHM_RDONLY), "shared memory of the host")
