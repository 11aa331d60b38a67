"""Joins the namespaces of the cell's PID 1 by the files in /proc/1/ns.

layers: seccomp, landlock, init, capabilities
"""
from attack import *

refused = set()
for name in "user", "mnt", "net", "uts", "ipc", "cgroup", "pid", "time":
    try:
        file = os.open(f"/proc/{init()}/ns/{name}", os.O_RDONLY)
    except OSError as error:
        refused.add(errno.errorcode[error.errno])
        continue
    if syscall("setns", file, 0) == 0:
        through(f"the {name} namespace of PID 1")
    refused.add(reason())
stopped(", ".join(sorted(refused)))
