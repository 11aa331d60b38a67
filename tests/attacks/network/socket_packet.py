"""Makes a socket that sees and sends whole frames.

layers: seccomp, capabilities, network-owner
"""
import socket

from attack import *

for kind in (socket.SOCK_RAW, socket.SOCK_DGRAM):
    try:
        socket.socket(socket.AF_PACKET, kind, 0)
        through("a packet socket")
    except OSError as error:
        why = errno.errorcode[error.errno]
stopped(why)
