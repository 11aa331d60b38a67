"""Opens POSIX shared memory of a neighbour, which is a file in /dev/shm.

layers: view
neighbour: _files.py
"""
from attack import *

with open("/dev/shm/neighbour") as file:
    through(file.read())
