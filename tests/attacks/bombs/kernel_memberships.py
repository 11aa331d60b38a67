"""Joins many multicast groups of IPv6, each of which the kernel keeps for the interface and charges to nobody.

layers: seccomp
options: --memory 64MiB
"""
from kernel_memory import *

MANY = 5000
IPV6_JOIN_GROUP, LOOPBACK = 20, 1
joined, why = 0, ""
sockets = []
while joined < MANY and not why and not late():
    sockets.append(socket.socket(socket.AF_INET6, socket.SOCK_DGRAM))
    # A socket's own list has room for some thousands.
    for _ in range(1000):
        group = b"\xff\x02" + bytes(10) + struct.pack(">I", joined)
        try:
            request = group + struct.pack("i", LOOPBACK)
            sockets[-1].setsockopt(socket.IPPROTO_IPV6, IPV6_JOIN_GROUP, request)
        except OSError as error:
            why = errno.errorcode[error.errno]
            break
        joined += 1
text = f"{joined} groups" + (f", then {why}" if why else "")
through(text) if joined >= MANY else stopped(text)
