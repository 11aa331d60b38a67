"""Looks for the host's root behind /proc/PID/root of every process that it sees, its own included.

layers: mounts
"""
import glob

from attack import *

for root in glob.glob("/proc/*/root"):
    try:
        with open(root + witness("FOLDER") + "/secret") as secret:
            through(f"{root}: {secret.read().strip()}")
    except OSError:
        pass
stopped(f"no root of {len(glob.glob('/proc/*/root'))} has it")
