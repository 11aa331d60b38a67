"""Mounts an empty file system over /usr with mount(2).

layers: seccomp, landlock, capabilities
"""
from attack import *

tried(syscall("mount", b"none", b"/usr", b"tmpfs", 0, None), "/usr is another one")
