"""Makes the socket for pings that needs no privilege where a range of groups was allowed.

layers: seccomp, kernel
"""
import socket

from attack import *

for family, protocol in [(socket.AF_INET, 1), (socket.AF_INET6, 58)]:
    try:
        socket.socket(family, socket.SOCK_DGRAM, protocol)
        through(f"family {family}")
    except OSError as error:
        why = errno.errorcode[error.errno]
stopped(why)
