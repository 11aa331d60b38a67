"""Sees by inotify(7) which programs and libraries of /usr a neighbour runs.

layers: inodes
neighbour: _runs.py
"""
from attack import *

seen = watched(["/usr/bin", "/usr/bin/true", "/usr/lib", "/etc"], 3)
through(seen[:3]) if seen else stopped("no event")
