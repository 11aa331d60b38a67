"""Looks for a route to the cloud's metadata service and to the world. Nothing is sent.

layers: network-namespace
"""
import socket

from attack import *

# From blocks for documentation but for the first; connect(2) on a datagram socket only looks up a route.
for family, address in [
    (socket.AF_INET, "169.254.169.254"), (socket.AF_INET, "198.51.100.1"), (socket.AF_INET6, "2001:db8::1"),
]:
    try:
        socket.socket(family, socket.SOCK_DGRAM).connect((address, 80))
        through(f"there is a route to {address}")
    except OSError as error:
        why = errno.errorcode[error.errno]
stopped(why)
