"""Makes a socket's buffers larger than the host allows.

layers: capabilities, user-namespace, kernel
"""
import socket

from attack import *

SO_SNDBUFFORCE, SO_RCVBUFFORCE = 32, 33
for option in (SO_SNDBUFFORCE, SO_RCVBUFFORCE):
    try:
        socket.socket().setsockopt(socket.SOL_SOCKET, option, 1 << 28)
        through(f"option {option}")
    except OSError as error:
        why = errno.errorcode[error.errno]
stopped(why)
