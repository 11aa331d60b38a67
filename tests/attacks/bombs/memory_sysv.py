"""Fills a System V segment, which outlives the process that made it.

layers: cgroups
options: --memory 48MiB --disk 1GiB
verdict: out_of_memory
"""
from attack import *

IPC_RMID = 0
libc.shmat.restype = ctypes.c_void_p
segment = libc.shmget(0, ctypes.c_size_t(200 << 20), 0o1600)
address = libc.shmat(segment, None, 0)
# Outside of a cell nothing may stay behind: it goes with its last user.
libc.shmctl(segment, IPC_RMID, None)
ctypes.memset(address, 1, 200 << 20)
through("200 MiB stand")
