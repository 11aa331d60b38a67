"""Asks for the host's name.

layers: uts-namespace
"""
from attack import *

name = os.uname().nodename
through(name) if name == witness("HOSTNAME") else stopped(f"it is told {name}")
