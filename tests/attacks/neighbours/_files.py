"""Leaves files that everybody may read where names are short of private.

layers: none
"""
import signal

from attack import *

paths = ["/tmp/neighbour", "/dev/shm/neighbour"]
for path in paths:
    try:
        with open(path, "w") as file:
            file.write("the neighbour's secret")
    except PermissionError:
        # An earlier neighbour's is still there: it will do.
        pass


def leave(*_):
    for path in filter(os.path.exists, paths):
        os.unlink(path)
    os._exit(0)


signal.signal(signal.SIGTERM, leave)
print("ready", flush=True)
signal.pause()
