"""Reaches what is masked by other ways to the same name: thread-self, a process's root, a descriptor.

layers: masks, kernel
"""
from attack import *

proc = os.open("/proc", os.O_PATH)
root = os.open("/", os.O_PATH)
for folder, path in [
    (None, "/proc/self/root/proc/sysrq-trigger"),
    (None, "/proc/thread-self/root/proc/sys/kernel/core_pattern"),
    (None, "/proc/self/../sysrq-trigger"), (None, "/proc/1/../sys/kernel/core_pattern"),
    (None, "/proc/self/cwd/../proc/irq/default_smp_affinity"), (proc, "sysrq-trigger"),
    (proc, "./sys/kernel/core_pattern"), (root, "proc/sys/vm/drop_caches"),
]:
    try:
        file = os.open(path, os.O_WRONLY, dir_fd=folder)
        if os.fstat(file).st_rdev == 0:
            through(f"{path} can be written")
        why = "another file is there"
    except OSError as error:
        why = errno.errorcode[error.errno]
stopped(why)
