"""The same for a job that was given the host's network: its ports are then allowed, its sockets are not.

layers: landlock
needs: landlock 6
options: --network host
"""
import socket

from attack import *

socket.socket(socket.AF_UNIX).connect("\0" + witness("ABSTRACT"))
through("connected")
