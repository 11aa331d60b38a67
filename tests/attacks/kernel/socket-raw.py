"""Makes a raw socket, which can forge packets.

layers: seccomp, capabilities
"""
from attack import *

try_socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP, "RAW")
