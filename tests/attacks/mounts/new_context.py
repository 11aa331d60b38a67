"""Opens a file system with fsopen(2), the first step of the newer interface.

layers: seccomp, capabilities
"""
from attack import *

tried(syscall("fsopen", b"tmpfs", 0), "a context of tmpfs")
