"""Has the kernel forget pages of a file that others use (posix_fadvise(2), POSIX_FADV_DONTNEED): all then read
from the disk, and in a loop the disk is kept busy.

layers: seccomp
"""
from attack import *

POSIX_FADV_DONTNEED = 4
file = large_program()


def evict_and_read():
    for _ in range(8):
        syscall("fadvise64", file, 0, 0, POSIX_FADV_DONTNEED)
        os.pread(file, 1 << 22, 0)


read = read_from_disk(evict_and_read)
through(f"{read} bytes were read again") if read > 1 << 22 else stopped(f"{read} bytes were read again")
