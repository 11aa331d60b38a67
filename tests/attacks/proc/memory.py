"""Reads the kernel's memory, and what each page of the machine is used for.

layers: masks, kernel
"""
from attack import *

for name in ("kcore", "kpagecount", "kpageflags", "kpagecgroup"):
    try:
        with open(f"/proc/{name}", "rb") as file:
            if data := file.read(64):
                through(f"{name}: {data.hex()}")
    except OSError:
        pass
stopped("nothing can be read")
