"""Mounts over /usr with fsopen, fsconfig, fsmount and move_mount.

layers: seccomp, landlock, capabilities
"""
from attack import *

FSCONFIG_CMD_CREATE, AT_FDCWD, MOVE_MOUNT_F_EMPTY_PATH = 6, -100, 4
context = syscall("fsopen", b"tmpfs", 0)
syscall("fsconfig", context, FSCONFIG_CMD_CREATE, None, None, 0)
mount = syscall("fsmount", context, 0, 0)
result = syscall("move_mount", mount, b"", AT_FDCWD, b"/usr", MOVE_MOUNT_F_EMPTY_PATH)
tried(result, "/usr is another one")
