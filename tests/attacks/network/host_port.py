"""Connects to a service of the host on 127.0.0.1.

layers: network-namespace
"""
import socket

from attack import *

socket.create_connection(("127.0.0.1", int(witness("PORT"))), 3)
through("connected")
