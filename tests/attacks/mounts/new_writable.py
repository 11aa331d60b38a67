"""Makes /usr writable with mount_setattr(2).

layers: seccomp, capabilities
"""
from attack import *

AT_FDCWD, MOUNT_ATTR_RDONLY = -100, 1
clear = struct.pack("4Q", 0, MOUNT_ATTR_RDONLY, 0, 0)
tried(syscall("mount_setattr", AT_FDCWD, b"/usr", 0, clear, len(clear)), "/usr is writable")
