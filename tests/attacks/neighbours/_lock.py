"""Holds a lock on a file that all cells see, where it may.

layers: none
"""
import fcntl
import signal

from attack import *

file = open("/usr/lib/os-release")
try:
    fcntl.flock(file, fcntl.LOCK_EX)
except OSError:
    pass
print("ready", flush=True)
signal.pause()
