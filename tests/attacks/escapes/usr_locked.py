"""Locks a file in /usr, which needs no right to write: a program of the host that wants the lock waits.

layers: apparmor
needs: apparmor
"""
import fcntl

from attack import *

with open("/usr/lib/os-release") as file:
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    through("it is locked")
