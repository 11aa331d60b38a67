"""Joins many multicast groups of IPv4 with one socket, each of which the kernel keeps for the interface and charges
to nobody.

layers: network
"""
from kernel_memory import *

# The kernel's default is 20.
MANY = 5
joined, why = 0, ""
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
while joined < MANY and not why:
    group = bytes([239, 0, 0, joined])
    try:
        udp.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group + socket.inet_aton("127.0.0.1"))
        joined += 1
    except OSError as error:
        why = errno.errorcode[error.errno]
text = f"{joined} groups" + (f", then {why}" if why else "")
through(text) if joined >= MANY else stopped(text)
