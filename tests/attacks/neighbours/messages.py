"""Reads and writes a System V message queue of a neighbour.

layers: ipc-namespace
neighbour: _ipc.py
"""
from attack import *

queue = libc.msgget(0x6E656962, 0)
through(f"queue {queue}") if queue >= 0 else stopped()
