"""Runs as a realtime process, which ordinary ones never get in the way of.

layers: kernel
"""
from attack import *

for policy in (os.SCHED_FIFO, os.SCHED_RR):
    try:
        os.sched_setscheduler(0, policy, os.sched_param(1))
        through("a realtime process")
    except PermissionError:
        pass
stopped("EPERM")
