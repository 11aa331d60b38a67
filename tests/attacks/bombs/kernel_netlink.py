"""Leaves error replies of netlink unread, each of which repeats a request of 60 kB, in sockets of several
processes.

layers: seccomp, watcher
options: --memory 64MiB
measures: kernel memory
"""
from kernel_memory import *

NLM_F_REQUEST, UNKNOWN = 1, 5000
message = struct.pack("IHHII", 60_000, UNKNOWN, NLM_F_REQUEST, 0, 0) + bytes(60_000 - 16)


def unread(_):
    netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
    for _ in range(4):
        netlink.send(message)
    return netlink


total, why = in_processes(8, lambda: many(unread, in_queues))
held(total, "error replies", why)
