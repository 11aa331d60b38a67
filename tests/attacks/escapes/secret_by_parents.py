"""Climbs from its working folder by more `..` than there are folders above.

layers: mounts
"""
from attack import *

with open("../" * 64 + witness("FOLDER").lstrip("/") + "/secret") as secret:
    through(secret.read().strip())
