"""Types into the terminal that it was given (CVE-2017-5226), also by a wider number (CVE-2019-10063).

layers: seccomp, kernel
needs: tty
"""
from attack import *

# The kernel refuses it too: the session is not that of the terminal, or nobody may (dev.tty.legacy_tiocsti). With
# `cloister run` the terminal is the job's own pty, so that a letter would reach nobody else.
TIOCSTI = 0x5412
for upper in 0, 1 << 32:
    letter = ctypes.create_string_buffer(b"#", 1)
    if syscall("ioctl", 0, upper | TIOCSTI, letter) == 0:
        through("a letter in its terminal")
stopped()
