"""Holds a lock on every second byte of many files, its own and those of /usr, in several processes.

layers: watcher
options: --memory 64MiB --disk 1GiB
measures: kernel memory
"""
import fcntl

from kernel_memory import *

# Bytes of a struct file_lock in its slab; older kernels have larger ones.
LOCK = 192
# A new lock is compared with all others of its file, so that few for each file are fast.
EACH = 600
others = [f"/usr/bin/{name}" for name in sorted(os.listdir("/usr/bin"))]
others = [path for path in others if os.path.isfile(path)][:DESCRIPTORS // 2]


def own(number):
    return os.open(f"{os.getpid()}.{number}", os.O_RDWR | os.O_CREAT)


def locked(number):
    if number % 2 and number // 2 < len(others):
        file, kind = os.open(others[number // 2], os.O_RDONLY), fcntl.LOCK_SH
    else:
        file, kind = own(number), fcntl.LOCK_EX
    for lock in range(EACH, 0, -1):
        fcntl.lockf(file, kind, 1, 2 * lock)
    return file


total, why = in_processes(8, lambda: many(locked, EACH * LOCK, 980))
held(total, "locks", why)
