"""Makes a raw Bluetooth socket. Outside of the first network namespace there are none.

layers: seccomp, network-namespace
"""
from attack import *

AF_BLUETOOTH, BTPROTO_HCI = 31, 1
try_socket(AF_BLUETOOTH, socket.SOCK_RAW, BTPROTO_HCI, "HCI")
