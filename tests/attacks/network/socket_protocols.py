"""Makes an IP socket of a protocol beside TCP and UDP: MPTCP, SCTP, DCCP, UDP-Lite, SMC.

layers: seccomp
"""
import socket

from attack import *

for kind, protocol in [(1, 262), (1, 132), (5, 132), (6, 33), (2, 136), (1, 256)]:
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.socket(family, kind, protocol)
            through(f"family {family}, type {kind}, protocol {protocol}")
        except OSError as error:
            why = errno.errorcode[error.errno]
stopped(why)
