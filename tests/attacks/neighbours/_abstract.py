"""Listens on an abstract UNIX socket.

layers: none
"""
import signal
import socket

from attack import *

server = socket.socket(socket.AF_UNIX)
server.bind("\0neighbour")
server.listen()
print("ready", flush=True)
signal.pause()
