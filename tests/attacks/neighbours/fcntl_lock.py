"""Is told something by a neighbour's lock (fcntl(2)) on a file that both see.

layers: apparmor, inodes
neighbour: _lock.py
"""
import fcntl

from attack import *

F_GETLK64, F_UNLCK = 5, 2
with open("/usr/lib/os-release") as file:
    lock = fcntl.fcntl(file, F_GETLK64, struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
    kind = struct.unpack_from("h", lock)[0]
    through("it is held by somebody else") if kind != F_UNLCK else stopped("nobody holds it")
