"""Reads the files of the cell's PID 1 that the kernel keeps for those who may trace it.

layers: landlock, init
"""
from attack import *

refused = set()
MEMORY = "mem", "task/1/mem", "maps", "smaps", "pagemap", "environ", "auxv"
for name in *MEMORY, "personality", "syscall", "io":
    try:
        file = os.open(f"/proc/{init()}/{name}", os.O_RDONLY)
        # Memory is asked for at its start, where nothing is: EIO comes after the question who may.
        through(f"/proc/1/{name}: {os.read(file, 16)}")
    except OSError as error:
        if error.errno == errno.EIO:
            through(f"/proc/1/{name} is open")
        refused.add(errno.errorcode[error.errno])
stopped(", ".join(sorted(refused)))
