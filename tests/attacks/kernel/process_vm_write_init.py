"""Writes into the memory of the cell's PID 1, which is not confined by Landlock.

layers: seccomp, landlock, init
"""
from attack import *

# Nothing is mapped there: EFAULT instead of EPERM says that the rest would have been writable.
NOWHERE = 0x1000
zeros = ctypes.create_string_buffer(8)
here, there = struct.pack("PN", address(zeros), 8), struct.pack("PN", NOWHERE, 8)
result = syscall("process_vm_writev", init(), here, 1, there, 1, 0)
tried(result, "memory of PID 1", past=["EFAULT"])
