"""Makes the caller's terminal its own, which it may if it is no session's, and types into it.

layers: seccomp
needs: tty
"""
import fcntl
import termios

from attack import *

try:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
except OSError:
    absent("the terminal is that of another session: see terminal_input")
fcntl.ioctl(0, termios.TIOCSTI, b"#")
through("a letter in the caller's terminal")
