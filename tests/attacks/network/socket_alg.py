"""Makes a socket to the kernel's ciphers (AF_ALG), which load modules on demand.

layers: seccomp
"""
from attack import *

AF_ALG = 38
try_socket(AF_ALG, socket.SOCK_SEQPACKET, 0, "ALG")
