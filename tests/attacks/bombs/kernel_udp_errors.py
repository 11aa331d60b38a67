"""Leaves errors of UDP unread, each of which holds a part of its datagram: IP_RECVERR, and IPV6_RECVERR.

layers: seccomp, watcher
options: --memory 64MiB
measures: kernel memory
"""
from kernel_memory import *

# To a port on which nobody listens.
KINDS = [
    (socket.AF_INET, socket.IPPROTO_IP, 11, ("127.0.0.1", 9)),
    (socket.AF_INET6, socket.IPPROTO_IPV6, 25, ("::1", 9)),
]
datagram = bytes(1200)


def unread(number):
    family, level, option, closed = KINDS[number % 2]
    udp = socket.socket(family, socket.SOCK_DGRAM)
    udp.setsockopt(level, option, 1)
    udp.connect(closed)
    for _ in range(300):
        try:
            udp.send(datagram, socket.MSG_DONTWAIT)
        except ConnectionRefusedError:
            pass
        except BlockingIOError:
            break
    if in_queues(udp) == 0:
        raise OSError(errno.ENOMSG, "no error is kept")
    return udp


total, why = in_processes(8, lambda: many(unread, in_queues))
held(total, "errors", why)
