"""Reads which ports of the host are listened on.

layers: network-namespace
"""
from attack import *

port = f":{int(witness('PORT')):04X} "
with open("/proc/net/tcp") as file:
    lines = list(file)
for line in lines:
    if port in line:
        through(line.strip())
stopped(f"{len(lines) - 1} other lines")
