"""Watches the devices of the host by the counts of their interrupts, one by one (/proc/irq).

layers: masks
"""
from attack import *

try:
    entries = os.listdir("/proc/irq")
except FileNotFoundError:
    absent("the kernel has no /proc/irq")
through(entries[:5]) if entries else stopped("it is empty")
