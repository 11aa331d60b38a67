"""Attaches a System V segment of a neighbour.

layers: ipc-namespace
neighbour: _ipc.py
"""
from attack import *

segment = libc.shmget(0x6E656962, 0, 0)
through(f"segment {segment}") if segment >= 0 else stopped()
