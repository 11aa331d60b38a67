"""Gives itself a capability with capset(2).

layers: capabilities
"""
from attack import *

VERSION_3, SYS_ADMIN = 0x20080522, 1 << 21
header = struct.pack("Ii", VERSION_3, 0)
sets = struct.pack("6I", SYS_ADMIN, SYS_ADMIN, 0, 0, 0, 0)
tried(syscall("capset", header, sets), "CAP_SYS_ADMIN")
