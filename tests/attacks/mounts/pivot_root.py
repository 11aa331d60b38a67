"""Makes /job the root with pivot_root(2).

layers: seccomp, landlock, capabilities
"""
from attack import *

os.mkdir("/job/old")
tried(syscall("pivot_root", b"/job", b"/job/old"), "/job is the root")
