"""Sends credentials that are not its own: those of process 1, which a service would trust.

layers: capabilities
"""
import socket
import struct

from attack import *

a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
b.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
SCM_CREDENTIALS = 2
forged = struct.pack("3i", 1, os.getuid(), os.getgid())
a.sendmsg([b"x"], [(socket.SOL_SOCKET, SCM_CREDENTIALS, forged)])
_, ancillary, _, _ = b.recvmsg(1, 64)
through(f"sent as process {struct.unpack('3i', ancillary[0][2])[0]}")
