"""Reads a file of the host that anybody may read there, by its path.

layers: mounts, landlock
"""
from attack import *

path = witness("FOLDER") + "/secret"
through(f"read {path}: {open(path).read().strip()}")
