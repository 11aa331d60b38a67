"""Reads one page in every 2 MiB of a huge empty mapping: each costs a page of page table, and no page.

layers: cgroups
options: --memory 48MiB --disk 1GiB
verdict: out_of_memory
"""
import mmap

from attack import *

MAP_NORESERVE = 0x4000
flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE
memory = mmap.mmap(-1, 51200 << 21, flags=flags, prot=mmap.PROT_READ)
for table in range(51200):
    memory[table << 21]
through("200 MiB of page tables stand")
