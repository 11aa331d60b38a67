"""Sees by inotify(7) what a neighbour opens in a folder that was exposed to both.

layers: inodes
neighbour: _opens_exposed.py
"""
from attack import *

seen = watched([os.path.dirname(__file__), __file__], 3)
through(seen[:3]) if seen else stopped("no event")
