"""Sends a process of the host the signal 0. Also a refusal says that it is there.

layers: pid-namespace
"""
from attack import *

try:
    os.kill(int(witness("PID")), 0)
except ProcessLookupError:
    stopped("ESRCH")
except PermissionError:
    pass
through("it is there")
