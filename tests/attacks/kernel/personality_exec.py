"""Makes all that it can read executable, also in what it executes (READ_IMPLIES_EXEC).

layers: seccomp
"""
from attack import *

READ_IMPLIES_EXEC = 0x0400000
tried(syscall("personality", READ_IMPLIES_EXEC), "that personality")
