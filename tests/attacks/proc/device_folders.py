"""Reads what drivers tell of the host's devices: clocks, wake-up sources, sound cards, disks.

layers: masks
"""
from attack import *

names = [name for name in ("acpi", "asound", "driver", "scsi") if os.path.exists(f"/proc/{name}")]
seen = []
for name in names:
    for folder, _, files in os.walk(f"/proc/{name}"):
        seen += [f"{folder}/{file}" for file in files if os.access(f"{folder}/{file}", os.R_OK)]
if seen:
    through(seen[:10])
with open("/proc/self/mountinfo") as file:
    mounts = file.read()
masked = [name for name in names if f" /proc/{name} " in mounts]
stopped("all are masked") if masked == names else absent("a kernel whose drivers tell nothing")
