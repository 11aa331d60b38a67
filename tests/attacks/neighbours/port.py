"""Connects to a server of a neighbour's on 127.0.0.1.

layers: network-namespace
neighbour: _port.py
"""
import socket

from attack import *

socket.create_connection(("127.0.0.1", 34567), 3)
through("connected")
