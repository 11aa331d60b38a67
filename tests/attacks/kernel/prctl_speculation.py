"""Switches the mitigation of speculative store bypass off, where a process may choose.

layers: seccomp
"""
from attack import *

PR_GET_SPECULATION_CTRL, PR_SET_SPECULATION_CTRL = 52, 53
PR_SPEC_STORE_BYPASS, PR_SPEC_PRCTL, PR_SPEC_ENABLE = 0, 1, 2
state = syscall("prctl", PR_GET_SPECULATION_CTRL, PR_SPEC_STORE_BYPASS, 0, 0, 0)
if state < 0 or not state & PR_SPEC_PRCTL:
    absent("nothing that a process could switch")
result = syscall("prctl", PR_SET_SPECULATION_CTRL, PR_SPEC_STORE_BYPASS, PR_SPEC_ENABLE, 0, 0)
tried(result, "without the mitigation")
