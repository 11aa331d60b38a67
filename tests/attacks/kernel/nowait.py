"""Asks which pages of a file are in memory, and so what others have read (preadv2(2), RWF_NOWAIT).

layers: inodes, seccomp
"""
from attack import *

RWF_NOWAIT = 8
file = os.open("/usr/lib/os-release", os.O_RDONLY)
buffer = ctypes.create_string_buffer(16)
vector = ctypes.create_string_buffer(struct.pack("PN", address(buffer), 16))
os.pread(file, 16, 0)
tried(syscall("preadv2", file, vector, 1, 0, 0, RWF_NOWAIT), "it tells", past=("EAGAIN",))
