"""Traces a child of its own, as a debugger does.

layers: seccomp
"""
from attack import *

PTRACE_TRACEME = 0


def be_traced():
    return 0 if syscall("ptrace", PTRACE_TRACEME, 0, 0, 0) == 0 else ctypes.get_errno()


code = child(be_traced)
through("a traced child") if code == 0 else stopped(errno.errorcode.get(code, str(code)))
