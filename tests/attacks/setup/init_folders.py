"""Goes through the links of the cell's PID 1 to its root, its directory and its descriptors.

layers: landlock, init
"""
from attack import *

refused = set()
NAMES = "root", "root/usr", "cwd", "exe", "fd/0", "fd/3", "task/1/root", "ns/mnt", "ns/net"
for name in NAMES:
    try:
        os.open(f"/proc/{init()}/{name}", os.O_RDONLY)
        through(f"/proc/1/{name}")
    except OSError as error:
        refused.add(errno.errorcode[error.errno])
stopped(", ".join(sorted(refused)))
