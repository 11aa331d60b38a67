"""Has the kernel forget pages of a file that others use (madvise(2), MADV_PAGEOUT).

layers: kernel
"""
from attack import *

MADV_PAGEOUT = 21
pages = mmap.mmap(large_program(), 1 << 22, mmap.MAP_SHARED, mmap.PROT_READ)


def evict_and_read():
    for _ in range(8):
        bytes(pages)
        pages.madvise(MADV_PAGEOUT)
    bytes(pages)


read = read_from_disk(evict_and_read)
through(f"{read} bytes were read again") if read > 1 << 22 else stopped(f"{read} bytes were read again")
