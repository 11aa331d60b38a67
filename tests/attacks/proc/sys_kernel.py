"""Configures the whole kernel: what runs at a crash, what loads modules, which interpreters there are.

layers: masks, users
"""
from attack import *

for name in (
    "kernel/core_pattern", "kernel/modprobe", "kernel/hotplug", "kernel/randomize_va_space",
    "kernel/panic", "kernel/kptr_restrict", "kernel/hostname", "kernel/domainname", "vm/drop_caches",
    "vm/overcommit_memory", "vm/mmap_min_addr", "fs/binfmt_misc/register", "fs/protected_symlinks",
    "fs/suid_dumpable",
):
    try:
        # Opened, and nothing written.
        os.open(f"/proc/sys/{name}", os.O_WRONLY)
        through(f"{name} can be written")
    except OSError as error:
        why = errno.errorcode[error.errno]
stopped(why)
