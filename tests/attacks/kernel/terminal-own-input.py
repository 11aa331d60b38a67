"""Makes the caller's terminal its own, where it is nobody's, and types into it.

layers: seccomp, kernel
needs: tty
"""
import fcntl
import termios

from attack import *

try:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
except OSError:
    pass
fcntl.ioctl(0, termios.TIOCSTI, b"#")
through("a letter in the caller's terminal")
