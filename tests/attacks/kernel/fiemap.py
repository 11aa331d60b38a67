"""Asks where on the host's disk a file lies (ioctl_fiemap(2)).

layers: seccomp
"""
from attack import *

FS_IOC_FIEMAP = 0xC020660B
file = os.open(os.path.realpath(sys.executable), os.O_RDONLY)
request = ctypes.create_string_buffer(struct.pack("QQIIII", 0, 1 << 62, 0, 0, 4, 0), 32 + 4 * 56)
if syscall("ioctl", file, FS_IOC_FIEMAP, request) < 0:
    stopped()
_, physical, length = struct.unpack_from("QQQ", request, 32)
through(f"{length} bytes at {physical}")
