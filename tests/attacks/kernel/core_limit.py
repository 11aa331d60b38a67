"""Sets the limit on core files to 0, with which a crash starts the program that core_pattern names, as root on
the host: the limit of 1 that it was given keeps the kernel from that.

layers: seccomp
"""
import resource

from attack import *

RLIMIT_CORE = 4
zero = struct.pack("QQ", 0, 0)


def limit():
    with open("/proc/self/limits") as limits:
        line = next(line for line in limits if line.startswith("Max core file size"))
    return line.split()[4]


before = limit()
if before == "0":
    through("it is 0 already")
answers = [libc.setrlimit(RLIMIT_CORE, zero), libc.prlimit(0, RLIMIT_CORE, zero, None)]
resource_error = ""
try:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
except (OSError, ValueError) as error:
    resource_error = f", {error}"
after = limit()
through(f"it was {before}, and is {after}") if after != before else stopped(f"it is {after}; answers {answers}{resource_error}")
