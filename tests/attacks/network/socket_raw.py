"""Makes sockets of raw IP, version 4 and 6, with the type spelt with and without flags.

layers: seccomp, capabilities, network-owner
"""
import socket

from attack import *

for family in (socket.AF_INET, socket.AF_INET6):
    for flag in (0, socket.SOCK_CLOEXEC, socket.SOCK_NONBLOCK):
        for protocol in (1, 6, 17, 58, 255):
            try:
                socket.socket(family, socket.SOCK_RAW | flag, protocol)
                through(f"family {family}, protocol {protocol}")
            except OSError as error:
                why = errno.errorcode[error.errno]
stopped(why)
