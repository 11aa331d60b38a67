"""Takes from the count of asynchronous requests that the whole host shares (fs.aio-max-nr).

layers: seccomp
"""
from attack import *

context = ctypes.c_ulong(0)
tried(syscall("io_setup", 1, ctypes.byref(context)), "an aio context")
