"""Takes a mask of /proc away with umount2(2).

layers: seccomp, landlock, capabilities
"""
from attack import *

MNT_DETACH = 2
with open("/proc/self/mountinfo") as mounts:
    places = [line.split()[4] for line in mounts]
masks = [place for place in places if place.startswith("/proc/") and not os.path.isdir(place)]
if not masks:
    absent("nothing of /proc needs a mask")
tried(syscall("umount2", masks[0].encode(), MNT_DETACH), f"{masks[0]} bare")
