"""Lists the network interfaces of the host, with their addresses.

layers: network-namespace
"""
import socket

from attack import *

# Tunnels that stand idle in every new network namespace, where their modules are loaded.
idle = (
    "lo", "sit0", "tunl0", "gre0", "gretap0", "erspan0", "ip_vti0", "ip6tnl0", "ip6gre0", "ip6_vti0", "teql0",
)
names = [name for _, name in socket.if_nameindex() if name not in idle]
through(names) if names else stopped("its own loopback")
