"""Puts itself before everybody else: a nice value of -20.

layers: kernel
"""
from attack import *

os.setpriority(os.PRIO_PROCESS, 0, -20)
through("nice -20")
