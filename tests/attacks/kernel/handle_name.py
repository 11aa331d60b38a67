"""Asks for the handle of a file, which says where on the file system it lies.

layers: seccomp
"""
from attack import *

AT_FDCWD = -100
handle = ctypes.create_string_buffer(struct.pack("Ii", 128, 0), 8 + 128)
mount = ctypes.c_int()
result = syscall("name_to_handle_at", AT_FDCWD, b"/tmp", handle, ctypes.byref(mount), 0)
tried(result, "a handle", missing=["EOPNOTSUPP", "ENOSYS"])
