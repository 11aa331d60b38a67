"""Watches files with fanotify, in the form that the kernel lets every user have.

layers: seccomp
"""
from attack import *

FAN_CLASS_NOTIF, FAN_REPORT_FID = 0, 0x200
tried(syscall("fanotify_init", FAN_CLASS_NOTIF | FAN_REPORT_FID, 0), "a group", missing=["ENOSYS"])
