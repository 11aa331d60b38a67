"""Connects to an abstract UNIX socket of a neighbour.

layers: network-namespace, landlock
needs: landlock 6
neighbour: _abstract.py
"""
import socket

from attack import *

socket.socket(socket.AF_UNIX).connect("\0neighbour")
through("connected")
