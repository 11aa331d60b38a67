"""Adds interfaces: a bridge, a dummy, a pair; many kinds are modules that are loaded on demand.

layers: capabilities, network-owner
"""
import socket
import struct

from attack import *

RTM_NEWLINK, NLM_F_REQUEST_ACK_CREATE = 16, 0x405
link = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
link.bind((0, 0))


def attribute(kind, value):
    return struct.pack("HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


for number, kind in enumerate([b"dummy", b"bridge", b"veth", b"ifb", b"vcan", b"tun"]):
    message = struct.pack("BxHiII", 0, 0, 0, 0, 0)
    message += attribute(3, b"made%d\0" % number) + attribute(18, attribute(1, kind))
    header = struct.pack("IHHII", 16 + len(message), RTM_NEWLINK, NLM_F_REQUEST_ACK_CREATE, number, 0)
    link.send(header + message)
    answer = -struct.unpack_from("i", link.recv(4096), 16)[0]
    if answer == 0:
        through(f"a {kind.decode()} was added")
    why = errno.errorcode[answer]
stopped(why)
