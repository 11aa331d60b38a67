"""Asks to keep its capabilities when it changes its user. The secure bit is locked.

layers: capabilities
"""
from attack import *

PR_SET_KEEPCAPS = 8
tried(syscall("prctl", PR_SET_KEEPCAPS, 1, 0, 0, 0), "they would be kept")
