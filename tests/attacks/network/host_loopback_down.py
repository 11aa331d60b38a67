"""Takes down the loopback of the host, being given the host's network.

layers: capabilities, user-namespace, kernel
options: --network host
"""
import fcntl
import socket
import struct

from attack import *

SIOCSIFTXQLEN, SIOCGIFTXQLEN = 0x8943, 0x8942
# The length of a queue, set to what it is, needs the same right as taking the interface down.
length = fcntl.ioctl(socket.socket(), SIOCGIFTXQLEN, struct.pack("16si20x", b"lo", 0))
fcntl.ioctl(socket.socket(), SIOCSIFTXQLEN, length)
through("the host's lo can be configured")
