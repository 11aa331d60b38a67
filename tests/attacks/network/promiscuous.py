"""Makes an interface take up what is meant for others.

layers: capabilities, network-owner
"""
import fcntl
import socket
import struct

from attack import *

SIOCSIFFLAGS, IFF_UP, IFF_PROMISC = 0x8914, 1, 0x100
fcntl.ioctl(socket.socket(), SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", IFF_UP | IFF_PROMISC))
through("lo is promiscuous")
