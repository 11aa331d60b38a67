"""Changes the line discipline of the terminal, which loads kernel modules; here to what it is.

layers: seccomp
needs: tty
"""
import fcntl
import termios

from attack import *

N_TTY = 0
fcntl.ioctl(0, termios.TIOCSETD, struct.pack("i", N_TTY))
through("a line discipline")
