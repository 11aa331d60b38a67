"""Listens on an abstract UNIX socket, in the host's network.

layers: none
options: --network host
"""
import signal
import socket

from attack import *

server = socket.socket(socket.AF_UNIX)
server.bind("\0neighbour-shared")
server.listen()
print("ready", flush=True)
signal.pause()
