"""Looks whether the files of the cell's PID 1 are its own, which they are if that is dumpable.

layers: init
"""
from attack import *

owner = os.stat(f"/proc/{init()}/environ").st_uid
through("they are") if owner == os.getuid() else stopped(f"they are those of uid {owner}")
