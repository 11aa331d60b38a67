"""Makes the one device node that the kernel lets everybody make: character device 0:0.

layers: seccomp
"""
import stat

from attack import *

path = f"/tmp/node-{os.getpid()}"
os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(0, 0))
os.unlink(path)
through("a device node")
