"""Asks which pages of a file are in memory (mincore(2)), and so what others have read. The kernel answers of
one that the caller may not write to that all are.

layers: kernel
"""
from attack import *

LENGTH, POSIX_FADV_DONTNEED = 1 << 22, 4
file = large_program()
libc.mmap.restype = ctypes.c_void_p
pages = libc.mmap(None, ctypes.c_size_t(LENGTH), mmap.PROT_READ, mmap.MAP_SHARED, file, ctypes.c_long(0))
# Where that is done, none is.
syscall("fadvise64", file, 0, 0, POSIX_FADV_DONTNEED)
told = ctypes.create_string_buffer(LENGTH // mmap.PAGESIZE)
if libc.mincore(ctypes.c_void_p(pages), ctypes.c_size_t(LENGTH), told) != 0:
    stopped()
absent_pages = sum(1 for page in told.raw if not page & 1)
through(f"{absent_pages} are not") if absent_pages else stopped("it says that all are")
