"""Mounts a /proc without masks at another place.

layers: seccomp, landlock, capabilities
"""
from attack import *

os.mkdir("/tmp/proc")
tried(syscall("mount", b"proc", b"/tmp/proc", b"proc", 0, None), "a /proc without masks")
