"""Reads the memory of every process that it finds by process_vm_readv.

layers: pid-namespace, users, landlock, seccomp
neighbour: _waits.py
"""
from attack import *

buffer = ctypes.create_string_buffer(16)
local = (ctypes.c_size_t * 2)(ctypes.addressof(buffer), 16)
for process in sorted(int(name) for name in os.listdir("/proc") if name.isdigit()):
    # A child of the same program has this buffer at the same place only without randomisation:
    # EFAULT says that the right was there, and nothing at the address.
    remote = (ctypes.c_size_t * 2)(ctypes.addressof(buffer), 16)
    if process in (1, os.getpid()):
        continue
    done = syscall("process_vm_readv", process, local, 1, remote, 1, 0)
    if done >= 0 or ctypes.get_errno() == errno.EFAULT:
        through(f"process {process} can be read")
stopped("nobody's was read")
