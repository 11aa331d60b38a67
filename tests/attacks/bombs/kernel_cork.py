"""Begins datagrams of 60 kB and never sends them (MSG_MORE).

layers: watcher
options: --memory 64MiB --disk 1GiB
measures: kernel memory
"""
from kernel_memory import *


def begun(number):
    family, to = [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")][number % 2]
    udp = socket.socket(family, socket.SOCK_DGRAM)
    udp.connect((to, 9))
    udp.send(bytes(60_000), socket.MSG_MORE | socket.MSG_DONTWAIT)
    return udp


total, why = in_processes(12, lambda: many(begun, 60_000))
held(total, "begun datagrams", why)
