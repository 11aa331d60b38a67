"""Opens a process of the host by its id. This asks for no right but that the id exists.

layers: pid-namespace
"""
from attack import *

tried(syscall("pidfd_open", int(witness("PID")), 0), "a process of the host")
