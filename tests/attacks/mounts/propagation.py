"""Makes all mounts shared, so that what is mounted appears elsewhere too.

layers: seccomp, landlock, capabilities
"""
from attack import *

MS_REC, MS_SHARED = 0x4000, 1 << 20
tried(syscall("mount", None, b"/", None, MS_REC | MS_SHARED, None), "all mounts are shared")
