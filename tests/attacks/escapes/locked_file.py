"""Reads a file of the host that only root may read.

layers: mounts, users
"""
from attack import *

with open(witness("FOLDER") + "/locked") as secret:
    through(secret.read().strip())
