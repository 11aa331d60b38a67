"""Leaves FIFOs and a socket where host code might look for files: opening one waits for ever.

layers: descriptors
"""
import socket

from attack import *

for name in ("result", "output", "stdout", "core"):
    os.mkfifo(f"/job/{name}")
socket.socket(socket.AF_UNIX).bind("/job/report.json")
stopped("unless the host opens one, and hangs")
