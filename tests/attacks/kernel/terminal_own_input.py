"""Makes the terminal its own, which it may if it is no other session's, and types into it.

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
try:
    with open("/proc/sys/dev/tty/legacy_tiocsti") as allowed:
        if allowed.read().strip() == "0":
            absent("this kernel lets nobody type into a terminal")
except OSError:
    pass  # A kernel before 6.2.
fcntl.ioctl(0, termios.TIOCSTI, b"#")
print()  # Behind the letter, which the terminal shows.
through("a letter in its terminal")
