"""Looks for control groups to leave its own by, or to lift its limits.

layers: mounts, users
"""
import glob

from attack import *

for name in ("cgroup.procs", "memory.max", "memory.limit_in_bytes", "pids.max", "release_agent"):
    for path in glob.glob(f"/sys/fs/cgroup/**/{name}", recursive=True):
        try:
            os.open(path, os.O_WRONLY)
            through(f"{path} can be written")
        except OSError:
            pass
stopped("none can be written")
