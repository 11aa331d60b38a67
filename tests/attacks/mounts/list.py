"""Lists the mounts by their ids with listmount(2).

layers: seccomp
"""
from attack import *

LSMT_ROOT = 0xFFFFFFFFFFFFFFFF
# The filter's answer is that of a kernel without it.
if tuple(map(int, platform.release().split(".")[:2])) < (6, 8):
    absent("the kernel has no listmount")
request = ctypes.create_string_buffer(struct.pack("IIQQ", 24, 0, LSMT_ROOT, 0), 24)
ids = (ctypes.c_ulonglong * 64)()
count = syscall("listmount", request, ids, 64, 0)
tried(count, f"{count} mounts")
