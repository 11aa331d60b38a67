"""Makes a terminal pair by /dev/ptmx, and opens its other end without a path (TIOCGPTPEER).

layers: view, landlock
"""
import fcntl

from attack import *

TIOCGPTPEER, TIOCSPTLCK = 0x5441, 0x40045431
for path in ("/dev/ptmx", "/dev/pts/ptmx"):
    try:
        master = os.open(path, os.O_RDWR | os.O_NOCTTY)
        fcntl.ioctl(master, TIOCSPTLCK, bytes(4))
        fcntl.ioctl(master, TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY)
        through(f"a terminal by {path}")
    except OSError as error:
        why = errno.errorcode[error.errno]
stopped(why)
