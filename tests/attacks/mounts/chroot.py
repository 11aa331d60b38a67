"""Makes a folder of its own the root with chroot(2), the first half of the oldest escape.

layers: seccomp, capabilities
"""
from attack import *

tried(syscall("chroot", b"/tmp"), "/tmp is the root")
