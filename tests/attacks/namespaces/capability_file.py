"""Gives a copy of a program a capability, for whoever executes it.

layers: seccomp, capabilities
"""
import shutil

from attack import *

VERSION_2, EFFECTIVE, SYS_ADMIN = 0x02000000, 1, 1 << 21
shutil.copy("/usr/bin/true", "/job/true")
capability = struct.pack("<5I", VERSION_2 | EFFECTIVE, SYS_ADMIN, 0, 0, 0)
os.setxattr("/job/true", "security.capability", capability)
through("a program with CAP_SYS_ADMIN")
