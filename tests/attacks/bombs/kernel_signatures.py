"""Gives TCP sockets many keys for signatures (TCP_MD5SIG).

layers: seccomp
options: --memory 64MiB --disk 1GiB
measures: kernel memory
"""
from kernel_memory import *

TCP_MD5SIG, KEY = 14, 256


class Tcp(socket.socket):
    count = 0


def keyed(_):
    tcp = Tcp(socket.AF_INET, socket.SOCK_STREAM)
    tcp.count = 0
    try:
        for number in range(60_000):
            peer = struct.pack(">HHI", 0, 0, 0x7f000000 + number)
            peer = struct.pack("H", socket.AF_INET) + peer[2:] + bytes(120)
            tcp.setsockopt(socket.IPPROTO_TCP, TCP_MD5SIG, peer + struct.pack("BBHIi80s", 0, 0, 4, 0, 0, b"keys"))
            tcp.count += 1
    except OSError as error:
        if tcp.count == 0:
            raise
    return tcp


total, why = in_processes(8, lambda: many(keyed, lambda tcp: tcp.count * KEY))
held(total, "keys", why)
