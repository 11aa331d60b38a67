"""Takes more than its disk by fallocate, which writes nothing and makes no file longer.

layers: tmpfs
options: --disk 4MiB
"""
from attack import *

FALLOC_FL_KEEP_SIZE = 1
kept = []
for count in range(8):
    # Several files, each below any limit on a file's size.
    file = os.open("/tmp", os.O_TMPFILE | os.O_WRONLY, 0o600)
    if libc.fallocate(file, FALLOC_FL_KEEP_SIZE, ctypes.c_long(0), ctypes.c_long(2 << 20)) != 0:
        stopped(f"{reason()} after {2 * count} MiB")
through("16 MiB are reserved")
