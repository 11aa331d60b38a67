"""Writes another map to its own user namespace. A map can be written once, and it was.

layers: kernel
"""
from attack import *

for users in b"0 0 4294967295", b"0 0 1":
    try:
        os.write(os.open("/proc/self/uid_map", os.O_WRONLY), users)
        through(f"it maps {users}")
    except OSError as error:
        refused = errno.errorcode[error.errno]
stopped(refused)
