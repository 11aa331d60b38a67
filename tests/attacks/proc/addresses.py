"""Learns where the kernel lies in memory, which exploits need to know.

layers: masks, kernel
"""
from attack import *

for name in ("kallsyms", "modules", "iomem", "vmallocinfo", "timer_list", "net/unix"):
    try:
        with open(f"/proc/{name}") as file:
            for line in file:
                word = line.split()[0].rstrip(":").split("-")[0]
                if name == "modules":
                    word = line.split()[5]
                if name == "timer_list" and "<" in line:
                    continue
                digits = word.removeprefix("0x")
                if digits.startswith("ffff") and len(digits) == 16:
                    through(f"{name}: {line.strip()}")
    except OSError:
        pass
stopped("all addresses are zero, or out of reach")
