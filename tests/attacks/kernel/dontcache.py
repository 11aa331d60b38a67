"""Reads and has the pages forgotten at once (preadv2(2), RWF_DONTCACHE).

layers: inodes, seccomp
"""
from attack import *

RWF_DONTCACHE = 0x80
if tuple(map(int, platform.release().split(".")[:2])) < (6, 14):
    absent("the kernel has no RWF_DONTCACHE")
buffer = ctypes.create_string_buffer(16)
vector = ctypes.create_string_buffer(struct.pack("PN", address(buffer), 16))
file = os.open("/usr/lib/os-release", os.O_RDONLY)
tried(syscall("preadv2", file, vector, 1, 0, 0, RWF_DONTCACHE), "it is done")
