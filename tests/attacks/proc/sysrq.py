"""Reaches the key that reboots a machine, kills everything or dumps memory.

layers: masks, users
"""
from attack import *

path = "/proc/sysrq-trigger"
if not os.path.exists(path):
    absent("a kernel without the key")
file = os.open(path, os.O_WRONLY)
through("it can be pressed") if os.fstat(file).st_rdev == 0 else stopped("another file is there")
