"""Becomes the group root by setresgid(2).

layers: capabilities, user-namespace
"""
from attack import *

os.setresgid(0, 0, 0)
through(f"gid {os.getegid()}")
