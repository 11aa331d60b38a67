"""Types into the caller's terminal (CVE-2017-5226), also by a wider number (CVE-2019-10063).

layers: seccomp, kernel
needs: tty
"""
from attack import *

# The kernel refuses it too: the job's session is not that of the terminal.
TIOCSTI = 0x5412
for upper in 0, 1 << 32:
    letter = ctypes.create_string_buffer(b"#", 1)
    if syscall("ioctl", 0, upper | TIOCSTI, letter) == 0:
        through("a letter in the caller's terminal")
stopped()
