"""Writes more than its disk, in small files spread over every folder that it may write.

layers: tmpfs
options: --disk 4MiB
"""
from attack import *

total = 0
try:
    for number in range(6):
        folder = ["/tmp", "/dev/shm", "/job"][number % 3]
        if not os.access(folder, os.W_OK):
            continue
        file = os.open(folder, os.O_TMPFILE | os.O_WRONLY, 0o600)
        for _ in range(3):
            total += os.write(file, bytes(1 << 20))
except OSError as error:
    if total <= 8 << 20:
        stopped(f"{errno.errorcode[error.errno]} after {total} bytes")
through(f"{total} bytes written")
