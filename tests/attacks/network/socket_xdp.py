"""Makes a socket that shares rings with a network driver (AF_XDP).

layers: seccomp, capabilities, network-owner
"""
from attack import *

AF_XDP = 44
try_socket(AF_XDP, socket.SOCK_RAW, 0, "XDP")
