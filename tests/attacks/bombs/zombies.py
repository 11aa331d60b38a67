"""Children that have ended and are never waited for take process ids all the same.

layers: cgroups, rlimits
options: --pids 32
"""
from attack import *

count = 0
try:
    while count < 64:
        if os.fork() == 0:
            os._exit(0)
        count += 1
except BlockingIOError:
    pass
through(f"{count} zombies") if count > 32 else stopped(f"{count} zombies, then EAGAIN")
