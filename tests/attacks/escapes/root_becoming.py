"""Becomes root, or another user, or joins groups.

layers: capabilities, user-namespace, kernel
"""
from attack import *

for call in (
    lambda: libc.setuid(0), lambda: libc.setgid(0), lambda: libc.setresuid(0, 0, 0),
    lambda: libc.setuid(1), lambda: libc.setgroups(1, ctypes.byref(ctypes.c_int(0))),
):
    if call() == 0:
        through(f"uids {os.getresuid()}, groups {os.getgroups()}")
stopped()
