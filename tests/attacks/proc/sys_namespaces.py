"""Sets how many namespaces its user may make: the namespace's own user.max_* files.

layers: masks, capabilities, landlock
"""
from attack import *

with open("/proc/sys/user/max_net_namespaces", "w") as file:
    file.write("100000")
through("it was set")
