"""Makes netlink sockets to parts of the kernel that jobs have no use for: packet filters, audit, IPsec.

layers: seccomp
"""
import socket

from attack import *

made = []
for protocol in range(1, 32):
    for kind in (socket.SOCK_RAW, socket.SOCK_DGRAM):
        try:
            socket.socket(socket.AF_NETLINK, kind, protocol)
            made.append(protocol)
        except OSError as error:
            why = errno.errorcode[error.errno]
through(f"protocols {sorted(set(made))}") if made else stopped(why)
