"""Has the kernel forget a file's pages that others use (posix_fadvise(2), POSIX_FADV_DONTNEED), so that it
can be read from the disk again and again, and measures how many are left (mincore(2) tells of any file that
the caller may write to; here it is asked by preadv2(2) with RWF_NOWAIT, and by how long reading takes).

layers: seccomp
"""
import glob
import time

from attack import *

POSIX_FADV_DONTNEED = 4


def seconds(file):
    started = time.monotonic()
    os.pread(file, 1 << 22, 0)
    return time.monotonic() - started


# One that nothing else uses at the time.
size, path = max((os.path.getsize(path), path) for path in glob.glob("/usr/share/**", recursive=True)
                 + glob.glob("/usr/lib/*/*.a") if os.path.isfile(path) and os.access(path, os.R_OK))
file = os.open(path, os.O_RDONLY)
seconds(file)
kept = min(seconds(file) for _ in range(5))
evicted = []
for _ in range(5):
    result = syscall("fadvise64", file, 0, 0, POSIX_FADV_DONTNEED)
    evicted.append(seconds(file))
slower = min(evicted) / kept
through(f"reading {path} takes {slower:.1f} times as long") if slower > 2 else stopped(
    f"fadvise64 answers {reason() if result < 0 else result}, and reading takes {slower:.1f} times as long")
