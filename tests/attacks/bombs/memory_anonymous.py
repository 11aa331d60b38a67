"""Fills memory of its own.

layers: cgroups
options: --memory 48MiB --disk 1GiB
verdict: out_of_memory
"""
from attack import *

kept = [bytearray(b"x") * (1 << 20) for _ in range(200)]
through(f"{len(kept)} MiB stand")
