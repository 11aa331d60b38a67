"""Makes itself a segment for 16-bit code, whose handling has a record of its own.

layers: seccomp
needs: x86_64
"""
from attack import *

WRITE = 1
segment = struct.pack("IIII", 0, 0, 0, 0)
tried(syscall("modify_ldt", WRITE, segment, len(segment)), "a segment", missing=["ENOSYS"])
