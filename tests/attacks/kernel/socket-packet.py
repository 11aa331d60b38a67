"""Makes a packet socket, which hears all that an interface does.

layers: seccomp, capabilities
"""
from attack import *

AF_PACKET, ETH_P_ALL = 17, socket.htons(3)
try_socket(AF_PACKET, socket.SOCK_RAW, ETH_P_ALL, "PACKET")
