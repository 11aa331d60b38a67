"""Connects to an abstract UNIX socket of a neighbour, both being given the host's network.

layers: landlock
needs: landlock 6
options: --network host
neighbour: _abstract_shared.py
"""
import socket

from attack import *

socket.socket(socket.AF_UNIX).connect("\0neighbour-shared")
through("connected")
