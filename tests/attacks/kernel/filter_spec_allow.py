"""Installs a seccomp filter that takes the mitigation of speculation away (SPEC_ALLOW).

layers: seccomp
"""
from attack import *

SECCOMP_SET_MODE_FILTER, SPEC_ALLOW = 1, 4
result = syscall("seccomp", SECCOMP_SET_MODE_FILTER, SPEC_ALLOW, filter_that_allows())
tried(result, "such a filter")
