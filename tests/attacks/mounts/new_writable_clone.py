"""Makes a copy of /usr writable in the moment it is made, with open_tree_attr(2).

layers: seccomp, capabilities
"""
from attack import *

AT_FDCWD, OPEN_TREE_CLONE, MOUNT_ATTR_RDONLY = -100, 1, 1
clear = struct.pack("4Q", 0, MOUNT_ATTR_RDONLY, 0, 0)
tree = syscall("open_tree_attr", AT_FDCWD, b"/usr", OPEN_TREE_CLONE, clear, len(clear))
tried(tree, "a writable /usr", missing=["ENOSYS"])
