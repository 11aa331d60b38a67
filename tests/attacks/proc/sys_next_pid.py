"""Chooses the ids of processes to come, by a file of mode 0666 that asks for a capability when written.

layers: masks, capabilities, landlock
"""
from attack import *

if not os.path.exists("/proc/sys/kernel/ns_last_pid"):
    absent("a kernel without checkpointing")
with open("/proc/sys/kernel/ns_last_pid", "w") as file:
    file.write("5000")
child = os.fork()
if child == 0:
    os._exit(0)
os.wait()
through(f"the next process was {child}") if child >= 5000 else stopped(f"the next process was {child}")
