"""Makes a packet socket with numbers that only a comparison of 64 bits would take for another family.

layers: seccomp, capabilities, network-owner
"""
import socket

from attack import *

number = 41 if ARCH == "x86_64" else 198
for high in (0, 1 << 32, -1 << 32):
    for family, kind in [(socket.AF_PACKET, 3), (socket.AF_INET, 3)]:
        arguments = [ctypes.c_long(value) for value in (family + high, kind + high, 1 + high)]
        if libc.syscall(ctypes.c_long(number), *arguments) >= 0:
            through(f"family {family}, type {kind}, plus {high:#x}")
stopped()
