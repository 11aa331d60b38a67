"""Looks for a capability that a program could still give it, in the bounding set.

layers: capabilities
"""
from attack import *

PR_CAPBSET_READ, COUNT = 23, 41
bound = [n for n in range(COUNT) if syscall("prctl", PR_CAPBSET_READ, n, 0, 0, 0) == 1]
through(f"capabilities {bound}") if bound else stopped("the bounding set is empty")
