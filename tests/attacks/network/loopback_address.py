"""Gives the loopback another address, by the request that configures interfaces.

layers: capabilities, network-owner
"""
import fcntl
import socket
import struct

from attack import *

SIOCSIFADDR = 0x8916
address = struct.pack("HH4s8x", socket.AF_INET, 0, socket.inet_aton("127.3.2.1"))
fcntl.ioctl(socket.socket(), SIOCSIFADDR, struct.pack("16s16s8x", b"lo", address))
through("lo has it")
