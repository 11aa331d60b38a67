"""Takes a copy of the mount at /proc, without what masks it, with open_tree(2).

layers: seccomp, capabilities
"""
from attack import *

AT_FDCWD, OPEN_TREE_CLONE = -100, 1
tree = syscall("open_tree", AT_FDCWD, b"/proc", OPEN_TREE_CLONE)
tried(tree, "a /proc without masks")
