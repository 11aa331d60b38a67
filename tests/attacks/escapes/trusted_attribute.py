"""Writes attributes that overlay file systems and backup programs trust.

layers: seccomp, capabilities, user-namespace, kernel
"""
from attack import *

file = os.open("/tmp", os.O_TMPFILE | os.O_RDWR, 0o700)
os.setxattr(f"/proc/self/fd/{file}", "trusted.overlay.opaque", b"y")
through("it was set")
