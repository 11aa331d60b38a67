"""Listens on a port below 1024, which others take for root's.

layers: capabilities, network-owner
"""
import socket

from attack import *

with open("/proc/sys/net/ipv4/ip_unprivileged_port_start") as file:
    if int(file.read()) <= 80:
        absent("every port is everybody's")
socket.socket().bind(("127.0.0.1", 80))
through("it is port 80")
