"""Has the host's disk write out its cache by fsync(2) of a file that cannot be written.

layers: inodes
"""
from attack import *


def flushes():
    """Of all block devices (Documentation/block/stat.rst); the host's disks are in there."""
    with open("/proc/diskstats") as file:
        return sum(int(line.split()[18]) for line in file if len(line.split()) > 18)


file = os.open(os.path.realpath(sys.executable), os.O_RDONLY)
before = flushes()
for _ in range(500):
    os.fsync(file)
count = flushes() - before
through(f"{count} flushes") if count >= 400 else stopped(f"{count} flushes")
