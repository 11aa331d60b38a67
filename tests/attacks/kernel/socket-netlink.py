"""Makes netlink sockets other than that for routes.

layers: seccomp
"""
from attack import *

KINDS = {
    "sock_diag": 4, "xfrm": 6, "audit": 9, "netfilter": 12, "kobject_uevent": 15, "generic": 16,
}
refused = set()
for name, protocol in KINDS.items():
    try:
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol)
        through(f"a netlink socket for {name}")
    except OSError as error:
        refused.add(errno.errorcode[error.errno])
stopped(", ".join(sorted(refused)))
