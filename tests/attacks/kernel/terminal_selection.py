"""Pastes into a Linux console (CVE-2023-1523). A terminal of another kind has no such thing.

layers: seccomp, kernel
needs: tty
"""
import fcntl

from attack import *

TIOCLINUX, TIOCL_GETSHIFTSTATE = 0x541C, 6
fcntl.ioctl(0, TIOCLINUX, bytes([TIOCL_GETSHIFTSTATE]))
through("the console")
