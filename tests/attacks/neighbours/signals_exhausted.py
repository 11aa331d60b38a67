"""Can make no POSIX timer, since a neighbour has all pending signals that the kernel gives to the owner of
their user namespaces: the neighbour's attack, seen by its victim.

layers: user-owner, rlimits
neighbour: _timers.py
"""
from attack import *

timer = ctypes.c_void_p()
if libc.timer_create(0, None, ctypes.byref(timer)) == 0:
    stopped("one can be made")
through(f"none can be made beside a neighbour: {reason()}")
