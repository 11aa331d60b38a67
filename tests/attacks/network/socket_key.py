"""Makes a socket of the old interface to IPsec (AF_KEY).

layers: seccomp, capabilities, network-owner
"""
from attack import *

AF_KEY, PF_KEY_V2 = 15, 2
try_socket(AF_KEY, socket.SOCK_RAW, PF_KEY_V2, "KEY")
