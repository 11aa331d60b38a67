"""Joins a namespace that it is in already, which sets root and directory back to that namespace's.

layers: seccomp, capabilities
"""
from attack import *

CLONE_NEWNS = 0x00020000
own = os.open("/proc/self/ns/mnt", os.O_RDONLY)
tried(syscall("setns", own, CLONE_NEWNS), "its mount namespace")
