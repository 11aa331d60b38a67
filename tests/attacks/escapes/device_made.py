"""Makes nodes of the host's disks, memory and log.

layers: seccomp, capabilities, user-namespace, kernel
"""
import stat

from attack import *

path = f"/tmp/node-{os.getpid()}"
for kind, major, minor in [
    (stat.S_IFBLK, 8, 0), (stat.S_IFBLK, 253, 0), (stat.S_IFBLK, 254, 0), (stat.S_IFBLK, 259, 0),
    (stat.S_IFCHR, 1, 1), (stat.S_IFCHR, 1, 3), (stat.S_IFCHR, 1, 11), (stat.S_IFCHR, 10, 229),
]:
    try:
        os.mknod(path, kind | 0o600, os.makedev(major, minor))
        os.unlink(path)
        through(f"{kind:o} {major}:{minor}")
    except PermissionError:
        pass
stopped("EPERM")
