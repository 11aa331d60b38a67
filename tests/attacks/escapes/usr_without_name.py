"""Makes a file without a name in /usr, and gives a file of its own a name there, by their descriptors.

layers: mounts, landlock, users
"""
from attack import *

AT_FDCWD, AT_SYMLINK_FOLLOW = -100, 0x400
path = f"/usr/lib/made-{os.getpid()}"
for folder in ("/usr/lib", "/tmp"):
    try:
        file = os.open(folder, os.O_TMPFILE | os.O_WRONLY, 0o600)
    except OSError as error:
        ctypes.set_errno(error.errno)
        continue
    source = f"/proc/self/fd/{file}".encode()
    if libc.linkat(AT_FDCWD, source, AT_FDCWD, path.encode(), AT_SYMLINK_FOLLOW) == 0:
        os.unlink(path)
        through(path)
stopped()
