"""Keeps others off the second thread of its core (core scheduling).

layers: seccomp
"""
from attack import *

PR_SCHED_CORE, PR_SCHED_CORE_CREATE = 62, 1
result = syscall("prctl", PR_SCHED_CORE, PR_SCHED_CORE_CREATE, 0, 0, 0)
tried(result, "a core of its own", missing=["EINVAL", "ENODEV"])
