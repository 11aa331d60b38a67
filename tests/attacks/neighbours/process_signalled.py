"""Sends a signal to every process id that there can be.

layers: pid-namespace, users, landlock
neighbour: _waits.py
"""
from attack import *

# Signal 0: whether one could be sent.
for process in range(2, 65536):
    if process != os.getpid():
        try:
            os.kill(process, 0)
            through(f"process {process} can be signalled")
        except OSError:
            pass
stopped("nobody can be signalled")
