"""Makes a capability ambient, to have it in all that it executes.

layers: capabilities
"""
from attack import *

PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_SYS_ADMIN = 47, 2, 21
result = syscall("prctl", PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_SYS_ADMIN, 0, 0)
tried(result, "CAP_SYS_ADMIN is ambient")
