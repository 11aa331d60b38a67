"""Looks for what earlier jobs left in the folders that it may write.

layers: view
"""
from attack import *

folders = filter(os.path.isdir, ("/tmp", "/dev/shm", "/job"))
left = [f"{folder}/{name}" for folder in folders for name in os.listdir(folder)]
through(left[:10]) if left else stopped("all are empty")
