"""Sees by inotify(7) that a neighbour, or a program of the host, opens a device.

layers: inodes
needs: mknod
neighbour: _opens_devices.py
"""
from attack import *

names = ("null", "zero", "full", "random", "urandom")
seen = watched(["/dev", *(f"/dev/{name}" for name in names)], 3)
through(seen[:3]) if seen else stopped("no event")
