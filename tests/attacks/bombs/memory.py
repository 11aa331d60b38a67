"""Fills twice the memory that it was given.

layers: cgroups
options: --memory 64MiB
verdict: out_of_memory
"""
from attack import *

block = bytearray(128 << 20)
through(f"filled {len(block) >> 20} MiB of 64")
