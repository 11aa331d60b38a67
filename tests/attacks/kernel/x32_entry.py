"""Calls the kernel as an x32 program does, by numbers that a careless filter lets pass.

layers: seccomp
needs: x86_64
"""
from attack import *

X32, GETPID = 0x40000000, 39


def call():
    result = libc.syscall(ctypes.c_long(X32 | GETPID))
    return 0 if result == os.getpid() else ctypes.get_errno()


code = child(call)
if code == errno.ENOSYS:
    absent("this kernel has no x32 calls")
through("its pid, by the x32 entry") if code == 0 else stopped(f"the child ended with {code}")
