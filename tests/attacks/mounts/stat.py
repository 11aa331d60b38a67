"""Asks for the attributes of the mount at / with statmount(2).

layers: seccomp
"""
from attack import *

AT_FDCWD, STATX_MNT_ID_UNIQUE, STATMOUNT_MNT_BASIC = -100, 0x4000, 2
# The filter's answer is that of a kernel without it.
if tuple(map(int, platform.release().split(".")[:2])) < (6, 8):
    absent("the kernel has no statmount")
entry = ctypes.create_string_buffer(256)
if syscall("statx", AT_FDCWD, b"/", 0, STATX_MNT_ID_UNIQUE, entry) != 0:
    stopped()
(root,) = struct.unpack_from("Q", entry, 0x90)
request = struct.pack("IIQQ", 24, 0, root, STATMOUNT_MNT_BASIC)
answer = ctypes.create_string_buffer(4096)
tried(syscall("statmount", request, answer, 4096, 0), f"mount {root}")
