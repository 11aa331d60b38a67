"""Reads a file of the host, that anybody on the host may read, by its path.

layers: mounts
"""
from attack import *

with open(witness("FOLDER") + "/secret") as secret:
    through(secret.read().strip())
