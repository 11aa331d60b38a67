"""Is never killed when the host runs out of memory: an oom_score_adj below zero.

layers: kernel
"""
from attack import *

for score in (-1000, -1):
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write(str(score))
        through(f"it is {score}")
    except OSError as error:
        why = errno.errorcode[error.errno]
stopped(why)
