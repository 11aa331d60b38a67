"""Connects to a service of the host by the path of its UNIX socket, as one would to Docker's.

layers: mounts
"""
import socket

from attack import *

socket.socket(socket.AF_UNIX).connect(witness("FOLDER") + "/socket")
through("connected")
