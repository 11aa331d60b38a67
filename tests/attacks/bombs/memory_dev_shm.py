"""Fills /dev/shm, which on many systems has a limit of its own, half of the machine's memory.

layers: cgroups
options: --memory 48MiB --disk 1GiB
verdict: out_of_memory
"""
from attack import *

file = os.open("/dev/shm", os.O_TMPFILE | os.O_WRONLY, 0o600)
for _ in range(200):
    os.write(file, bytes(1 << 20))
through("200 MiB stand")
