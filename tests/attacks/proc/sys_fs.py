"""Reads the host's devices, modules and firmware in /sys.

layers: mounts
"""
from attack import *

found = os.listdir("/sys/class") + os.listdir("/sys/module")
through(found[:10])
