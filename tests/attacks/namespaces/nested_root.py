"""Becomes root of a user namespace of its own, where it could mount. A Landlock domain may not.

layers: seccomp, landlock
"""
from attack import *

CLONE_NEWUSER, CLONE_NEWNS = 0x10000000, 0x00020000
uid = os.getuid()
if syscall("unshare", CLONE_NEWUSER | CLONE_NEWNS) != 0:
    stopped()
with open("/proc/self/uid_map", "w") as ids:
    ids.write(f"0 {uid} 1")
tried(syscall("mount", b"none", b"/tmp", b"tmpfs", 0, None), f"uid {os.getuid()}, and a mount")
