"""Has the quotas of all file systems of the host written out.

layers: seccomp
"""
from attack import *

Q_SYNC = 0x800001
tried(syscall("quotactl", Q_SYNC << 8, None, 0, None), "quotas", missing=["ENOSYS"])
