"""Takes a lock of an open file description (F_OFD_SETLK) on a file in memory: it names no process, so nothing tells
whose it is.

layers: seccomp
"""
import fcntl

from attack import *

F_OFD_SETLK = 37
# struct flock: l_type, l_whence, l_start, l_len, l_pid.
lock = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 1, 0)
fcntl.fcntl(os.memfd_create("locked"), F_OFD_SETLK, lock)
through("a lock without a process")
