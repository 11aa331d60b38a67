"""Connects to an abstract UNIX socket of the host, which has no path that a mount could hide.

layers: network-namespace, landlock
needs: landlock 6
"""
import socket

from attack import *

socket.socket(socket.AF_UNIX).connect("\0" + witness("ABSTRACT"))
through("connected")
