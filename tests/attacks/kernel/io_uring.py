"""Makes an io_uring, by which calls happen that no filter sees.

layers: seccomp
"""
from attack import *

parameters = ctypes.create_string_buffer(120)
tried(syscall("io_uring_setup", 1, parameters), "a ring")
