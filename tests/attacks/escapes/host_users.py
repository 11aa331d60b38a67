"""Reads who has an account on the host.

layers: view
"""
from attack import *

with open("/etc/passwd") as passwd:
    names = [line.split(":")[0] for line in passwd]
others = [name for name in names if name not in ("root", "job", "nobody")]
through(others) if others else stopped(f"only {names}")
