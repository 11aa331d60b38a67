"""Gives everybody the right to write in a folder of the system.

layers: mounts, users
"""
from attack import *

os.chmod("/usr", 0o777)
through("everybody may write in /usr")
