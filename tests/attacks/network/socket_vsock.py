"""Makes a socket to the hypervisor, which belongs to no network namespace.

layers: seccomp
"""
import socket

from attack import *

AF_VSOCK = 40
for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET):
    try:
        socket.socket(AF_VSOCK, kind)
        through(f"a vsock of type {kind}")
    except OSError as error:
        why = errno.errorcode[error.errno]
stopped(why)
