"""Fills UNIX sockets that nobody reads: memory of the kernel's.

layers: cgroups
options: --memory 32MiB --disk 1GiB
verdict: out_of_memory
"""
import socket

from attack import *

kept, total = [], 0
for _ in range(450):
    a, b = socket.socketpair()
    kept += [a, b]
    a.setblocking(False)
    try:
        while True:
            total += a.send(bytes(1 << 15))
    except BlockingIOError:
        pass
through(f"{total >> 20} MiB in sockets") if total > 48 << 20 else stopped(f"{total >> 20} MiB in sockets")
