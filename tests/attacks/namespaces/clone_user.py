"""Makes a user namespace with clone(2), also by flags whose upper half the kernel ignores.

layers: seccomp
"""
from attack import *

CLONE_NEWUSER, SIGCHLD = 0x10000000, 17
for upper in 0, 1 << 32:
    result = syscall("clone", upper | CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0)
    if result == 0:
        os._exit(0)
    if result > 0:
        through("a child in a user namespace")
stopped()
