"""Takes memory that not even the kernel maps, and so no operator can look into.

layers: seccomp
"""
from attack import *

tried(syscall("memfd_secret", 0), "secret memory", missing=["ENOSYS"])
