"""Gives each of sixty programs 1.8 MiB of arguments, which the kernel holds.

layers: cgroups
options: --memory 48MiB --disk 1GiB
verdict: out_of_memory
"""
import subprocess

from attack import *

words = ["x" * 120_000] * 15
kept = [subprocess.Popen(["/bin/sh", "-c", "read line", *words], stdin=subprocess.PIPE) for _ in range(60)]
# Popen comes back when the program has been executed, so all of them stand, or were killed.
alive = sum(child.poll() is None for child in kept)
through("108 MiB of arguments stand") if alive == 60 else stopped(f"{alive} of 60 live")
