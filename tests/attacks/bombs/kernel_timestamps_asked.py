"""Asks with each datagram for the time at which it is sent (a control message), and leaves the answers unread, which
hold the datagrams.

layers: watcher
options: --memory 64MiB
measures: kernel memory
"""
from kernel_memory import *

SO_TIMESTAMPING, TX_SCHED = 37, 1 << 8
ASKING = [(socket.SOL_SOCKET, SO_TIMESTAMPING, struct.pack("I", TX_SCHED))]
sink = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sink.bind(("127.0.0.1", 0))


def unread(_):
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.connect(sink.getsockname())
    for _ in range(8):
        try:
            udp.sendmsg([bytes(60_000)], ASKING, socket.MSG_DONTWAIT)
        except BlockingIOError:
            break
    if in_queues(udp) == 0:
        raise OSError(errno.ENOMSG, "no time is kept")
    return udp


total, why = in_processes(8, lambda: many(unread, in_queues))
held(total, "times with their datagrams", why)
