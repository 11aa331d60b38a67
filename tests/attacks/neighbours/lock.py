"""Is told something by a neighbour's lock (flock(2)) on a file that both see.

layers: apparmor, inodes
neighbour: _lock.py
"""
import fcntl

from attack import *

with open("/usr/lib/os-release") as file:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        through("it is held by somebody else")
stopped("nobody holds it")
