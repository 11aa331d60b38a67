"""Takes a System V semaphore of a neighbour.

layers: ipc-namespace
neighbour: _ipc.py
"""
from attack import *

semaphore = libc.semget(0x6E656962, 0, 0)
through(f"semaphore {semaphore}") if semaphore >= 0 else stopped()
