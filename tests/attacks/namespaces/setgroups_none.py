"""Leaves all groups with setgroups(2), and with them one that is denied what others may.

layers: capabilities
"""
from attack import *

os.setgroups([])
through(f"groups {os.getgroups()}")
