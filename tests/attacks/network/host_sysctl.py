"""Configures the host's network, being given it.

layers: masks, users
options: --network host
"""
from attack import *

os.open("/proc/sys/net/ipv4/ip_forward", os.O_WRONLY)
through("it can be written")
