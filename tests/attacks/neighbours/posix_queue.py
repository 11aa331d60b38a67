"""Opens a POSIX message queue of a neighbour.

layers: ipc-namespace, landlock
neighbour: _ipc.py
"""
from attack import *

queue = libc.mq_open(b"/neighbour", os.O_RDONLY)
through(f"queue {queue}") if queue >= 0 else stopped()
