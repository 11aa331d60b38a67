"""Changes the times of a device's inode, which everybody may who may write to it.

layers: inodes
"""
from attack import *

for name in ("full", "null", "zero", "random", "urandom"):
    try:
        os.utime(f"/dev/{name}")
        through(f"/dev/{name}")
    except OSError as error:
        why = errno.errorcode[error.errno]
stopped(why)
