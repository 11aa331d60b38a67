"""Connects to an abstract socket that another cell listens on.

layers: network-namespace
neighbour: _listens.py
"""
import socket

from attack import *

with socket.socket(socket.AF_UNIX) as s:
    s.connect("\0neighbour")
    through(f"connected, and heard {s.recv(100)}")
