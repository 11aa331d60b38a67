"""Looks for folders of the host that no job needs: the kernel's, logs, run-time sockets, configuration.

layers: mounts
"""
from attack import *

names = [
    "/boot", "/run", "/sys", "/var/run/docker.sock", "/run/containerd", "/var/lib/dpkg", "/var/log",
    "/etc/shadow", "/etc/machine-id", "/etc/fstab", "/lost+found",
]
found = [name for name in names if os.path.lexists(name)]
through(found) if found else stopped("none is there")
