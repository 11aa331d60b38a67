"""Sets a limit of the cell's PID 1, here to what it is; as a CPU time of 0 it would soon kill that.

layers: seccomp
"""
import resource

from attack import *

# The kernel asks for the same user, and Landlock is not asked.
now = resource.prlimit(init(), resource.RLIMIT_CPU)
resource.prlimit(init(), resource.RLIMIT_CPU, now)
through("a limit of PID 1")
