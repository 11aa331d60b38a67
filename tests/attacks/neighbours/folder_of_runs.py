"""Looks for what earlier jobs left in the folders that it may write.

layers: mounts
"""
from attack import *

left = [f"{folder}: {os.listdir(folder)}" for folder in ("/tmp", "/dev/shm", "/job") if os.path.isdir(folder) and os.listdir(folder)]
through(left) if left else stopped("all are empty")
