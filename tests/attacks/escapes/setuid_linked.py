"""Keeps a setuid program by a link of its own, until a hole in it is known.

layers: mounts, landlock, kernel
"""
from attack import *

for name in ("su", "passwd", "chsh", "mount"):
    for folder in ("/job", "/tmp", "/dev/shm", "/usr/bin"):
        try:
            path = f"{folder}/linked-{os.getpid()}"
            os.link(f"/usr/bin/{name}", path)
            os.unlink(path)
            through(path)
        except OSError as error:
            why = errno.errorcode[error.errno]
stopped(why)
