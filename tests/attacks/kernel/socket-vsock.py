"""Makes a vsock, which speaks to the hypervisor around all network namespaces.

layers: seccomp
"""
from attack import *

AF_VSOCK = 40
try_socket(AF_VSOCK, socket.SOCK_STREAM, 0, "AF_VSOCK")
