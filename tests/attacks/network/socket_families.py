"""Makes a socket of any other family: much of what answers is rarely tested, and loaded on demand.

layers: seccomp
"""
import socket

from attack import *

common = {socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK}
made = []
for family in sorted(set(range(1, 64)) - common):
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW, socket.SOCK_SEQPACKET):
        try:
            socket.socket(family, kind)
            made.append(family)
        except OSError as error:
            why = errno.errorcode[error.errno]
through(f"families {sorted(set(made))}") if made else stopped(why)
