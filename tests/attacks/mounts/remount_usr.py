"""Makes the mount at /usr writable with mount(2). It is locked to a lesser user namespace.

layers: seccomp, landlock, capabilities, user-namespace
"""
from attack import *

MS_REMOUNT, MS_BIND = 0x20, 0x1000
tried(syscall("mount", None, b"/usr", None, MS_REMOUNT | MS_BIND, None), "/usr is writable")
