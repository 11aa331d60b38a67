"""Configures its own network, which whoever has a capability in that namespace may.

layers: masks, capabilities, landlock
"""
from attack import *

with open("/proc/sys/net/ipv4/ip_forward", "w") as file:
    file.write("1")
through("it forwards packets")
