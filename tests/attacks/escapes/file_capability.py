"""Gives a program of its own file capabilities, by the attribute that holds them.

layers: seccomp, capabilities, kernel
"""
import struct

from attack import *

file = os.open("/tmp", os.O_TMPFILE | os.O_RDWR, 0o700)
# struct vfs_cap_data, revision 2, effective: CAP_SYS_ADMIN.
os.setxattr(f"/proc/self/fd/{file}", "security.capability", struct.pack("<5I", 0x2000001, 1 << 21, 0, 0, 0))
through("it was set")
