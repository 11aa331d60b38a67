"""Holds locks of both kinds on a file that all cells see, where it may.

layers: none
"""
import fcntl
import signal

from attack import *

file = open("/usr/lib/os-release")
for lock in (lambda: fcntl.flock(file, fcntl.LOCK_EX), lambda: fcntl.lockf(file, fcntl.LOCK_SH)):
    try:
        lock()
    except OSError:
        pass
print("ready", flush=True)
signal.pause()
