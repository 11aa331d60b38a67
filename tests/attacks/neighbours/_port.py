"""Listens on a port.

layers: none
"""
import signal
import socket

from attack import *

server = socket.create_server(("127.0.0.1", 34567))
print("ready", flush=True)
signal.pause()
