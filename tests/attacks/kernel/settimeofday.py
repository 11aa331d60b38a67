"""Sets the clock; to nothing, which the kernel accepts from whoever may set it.

layers: seccomp, kernel
"""
from attack import *

tried(syscall("settimeofday", None, None), "the clock")
