"""Moves what covers a part of /proc away with mount(2).

layers: seccomp, landlock, capabilities
"""
from attack import *

MS_MOVE = 0x2000
os.mkdir("/tmp/there")
tried(syscall("mount", b"/proc/sys", b"/tmp/there", None, MS_MOVE, None), "/proc/sys bare")
