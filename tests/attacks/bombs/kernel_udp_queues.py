"""Fills the queues of UDP sockets that were made as large as they may be (SO_RCVBUF).

layers: cgroups, watcher
options: --memory 64MiB --disk 1GiB
measures: kernel memory
"""
from kernel_memory import *


def unread(_):
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 30)
    udp.bind(("127.0.0.1", 0))
    last = -1
    while in_queues(udp) > last:
        last = in_queues(udp)
        udp.sendto(bytes(60_000), socket.MSG_DONTWAIT, udp.getsockname())
    return udp


total, why = in_processes(4, lambda: many(unread, in_queues))
held(total, "unread datagrams", why)
