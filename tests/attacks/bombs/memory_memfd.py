"""Fills a file in memory that has no name.

layers: cgroups
options: --memory 48MiB --disk 1GiB
verdict: out_of_memory
"""
from attack import *

file = os.memfd_create("bomb")
for _ in range(200):
    os.write(file, bytes(1 << 20))
through("200 MiB stand")
