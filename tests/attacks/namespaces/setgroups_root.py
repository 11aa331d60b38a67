"""Joins the group root with setgroups(2).

layers: capabilities, user-namespace
"""
from attack import *

os.setgroups([0])
through(f"groups {os.getgroups()}")
