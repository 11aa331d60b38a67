"""Looks, as the first thing it does, whether it could gain rights by executing something.

layers: capabilities
"""
status = open("/proc/self/status").read()

from attack import *

stopped("no_new_privs is set") if "NoNewPrivs:\t1" in status else through("no_new_privs is not set")
