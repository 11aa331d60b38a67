"""Makes up a connection that never was (TCP_REPAIR).

layers: capabilities, network-owner
"""
import socket

from attack import *

TCP_REPAIR = 19
socket.socket().setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
through("it can be made up")
