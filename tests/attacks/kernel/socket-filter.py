"""Attaches programs to a socket: memory that is not counted, and code that is compiled for it.

layers: seccomp
"""
from attack import *

SO_ATTACH_FILTER, SO_ATTACH_REUSEPORT_CBPF = 26, 51
program = filter_that_allows()
own = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
own.bind(("127.0.0.1", 0))
refused = set()
for option in SO_ATTACH_FILTER, SO_ATTACH_REUSEPORT_CBPF:
    # The kernel takes level and option as 32 bits: the upper half must not matter.
    for upper in 0, 1 << 32:
        where = own.fileno(), upper | socket.SOL_SOCKET, upper | option
        if syscall("setsockopt", *where, program, 16) == 0:
            through(f"a program, by option {option}")
        refused.add(reason())
stopped(", ".join(sorted(refused)))
