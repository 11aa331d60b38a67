"""Reads a file that a neighbour has in /tmp.

layers: view
neighbour: _files.py
"""
from attack import *

with open("/tmp/neighbour") as file:
    through(file.read())
