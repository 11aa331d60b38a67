"""Binds to an address that is not its own (IP_TRANSPARENT), to answer for others.

layers: capabilities, network-owner
"""
import socket

from attack import *

IP_TRANSPARENT, IPV6_TRANSPARENT = 19, 75
for family, level, option in [
    (socket.AF_INET, socket.SOL_IP, IP_TRANSPARENT), (socket.AF_INET6, socket.IPPROTO_IPV6, IPV6_TRANSPARENT),
]:
    try:
        socket.socket(family).setsockopt(level, option, 1)
        through(f"family {family}")
    except OSError as error:
        why = errno.errorcode[error.errno]
stopped(why)
