"""Reads the kernel's log, addresses and all.

layers: mounts, kernel
"""
from attack import *

for path in ("/proc/kmsg", "/dev/kmsg"):
    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        through(os.read(file, 200))
    except OSError as error:
        why = errno.errorcode[error.errno]
stopped(why)
