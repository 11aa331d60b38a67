"""Sends credentials that are not its own: those of root.

layers: capabilities, user-namespace
"""
import socket
import struct

from attack import *

a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
b.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
SCM_CREDENTIALS = 2
a.sendmsg([b"x"], [(socket.SOL_SOCKET, SCM_CREDENTIALS, struct.pack("3i", os.getpid(), 0, 0))])
_, ancillary, _, _ = b.recvmsg(1, 64)
through(f"sent as user {struct.unpack('3i', ancillary[0][2])[1]}")
