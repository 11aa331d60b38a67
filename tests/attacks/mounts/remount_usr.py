"""Takes the read-only flag of the mount at /usr away with mount(2); the overlay below has none to write to.

layers: seccomp, landlock, capabilities
"""
from attack import *

MS_REMOUNT, MS_BIND = 0x20, 0x1000
tried(syscall("mount", None, b"/usr", None, MS_REMOUNT | MS_BIND, None), "the mount at /usr is read-only no more")
