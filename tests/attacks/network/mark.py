"""Marks its packets as those that the host's rules let through, and takes a priority of the host's own.

layers: capabilities, network-owner
"""
import socket

from attack import *

SO_MARK = 36
for option, value in [(SO_MARK, 1), (socket.SO_PRIORITY, 7)]:
    try:
        socket.socket().setsockopt(socket.SOL_SOCKET, option, value)
        through(f"option {option} is {value}")
    except OSError as error:
        why = errno.errorcode[error.errno]
stopped(why)
