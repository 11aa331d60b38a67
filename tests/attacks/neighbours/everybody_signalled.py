"""Sends a signal to all processes at once that it may send one to: kill(-1).

layers: pid-namespace, users, landlock
neighbour: _waits.py
"""
from attack import *

# Signal 0: whether there is anybody. It does not reach the sender, nor process 1.
os.kill(-1, 0)
through("there is somebody")
