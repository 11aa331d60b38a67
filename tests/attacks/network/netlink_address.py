"""Adds an address by the netlink that jobs may ask for addresses.

layers: capabilities, network-owner
"""
import socket
import struct

from attack import *

RTM_NEWADDR, NLM_F_REQUEST_ACK_CREATE = 20, 0x405
attribute = struct.pack("HH4s", 8, 2, socket.inet_aton("127.3.2.2"))
message = struct.pack("BBBBi", socket.AF_INET, 32, 0, 0, 1) + attribute
header = struct.pack("IHHII", 16 + len(message), RTM_NEWADDR, NLM_F_REQUEST_ACK_CREATE, 1, 0)
link = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
link.bind((0, 0))
link.send(header + message)
answer = -struct.unpack_from("i", link.recv(4096), 16)[0]
through("it was added") if answer == 0 else stopped(errno.errorcode[answer])
