"""Becomes root by setresuid(2).

layers: capabilities, user-namespace
"""
from attack import *

os.setresuid(0, 0, 0)
through(f"uid {os.geteuid()}")
