"""Makes a socket of Multipath TCP: much code beside the TCP that programs need.

layers: seccomp
"""
from attack import *

IPPROTO_MPTCP = 262
try_socket(socket.AF_INET, socket.SOCK_STREAM, IPPROTO_MPTCP, "MPTCP")
