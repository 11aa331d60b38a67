"""Fills memory that is shared between processes, which belongs to no process in particular.

layers: cgroups
options: --memory 48MiB --disk 1GiB
verdict: out_of_memory
"""
import mmap

from attack import *

memory = mmap.mmap(-1, 200 << 20)
for page in range(0, 200 << 20, 4096):
    memory[page] = 1
through("200 MiB stand")
