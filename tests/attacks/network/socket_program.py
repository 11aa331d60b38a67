"""Attaches a packet filter to a socket: compiled into kernel memory out of a budget of the whole host.

layers: seccomp
"""
import socket
import struct

from attack import *

SO_ATTACH_FILTER = 26
program = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0xFFFF))
option = struct.pack("HxxxxxxQ", 1, ctypes.addressof(program))
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, option)
through("it is attached")
