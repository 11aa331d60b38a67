"""Fills /tmp beyond the memory limit, below the disk limit: files are memory too.

layers: cgroups
options: --memory 48MiB --disk 1GiB
verdict: out_of_memory
"""
from attack import *

file = os.open("/tmp", os.O_TMPFILE | os.O_WRONLY, 0o600)
for _ in range(200):
    os.write(file, bytes(1 << 20))
through("200 MiB stand")
