"""Takes the loopback down, by the request that configures interfaces.

layers: capabilities, network-owner
"""
import fcntl
import socket
import struct

from attack import *

SIOCSIFFLAGS = 0x8914
fcntl.ioctl(socket.socket(), SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", 0))
through("lo is down")
