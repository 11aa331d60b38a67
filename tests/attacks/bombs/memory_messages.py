"""Leaves System V messages unread: memory of the kernel's, not of any process.

layers: cgroups
options: --memory 48MiB --disk 1GiB
verdict: out_of_memory
"""
from attack import *

IPC_NOWAIT, IPC_RMID = 0o4000, 0
message = ctypes.create_string_buffer(b"\1" + bytes(7) + b"x" * 8000)
queues = []
while len(queues) < 12800:
    queue = libc.msgget(0, 0o1600)
    if queue < 0:
        break
    queues.append(queue)
    for _ in range(2):
        libc.msgsnd(queue, message, ctypes.c_size_t(8000), IPC_NOWAIT)
for queue in queues:
    libc.msgctl(queue, IPC_RMID, None)
total = len(queues) * 16000 >> 20
through(f"{total} MiB of messages") if total > 96 else stopped(f"{total} MiB of messages, then {reason()}")
