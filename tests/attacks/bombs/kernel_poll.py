"""Waits with poll(2) for the same pipe twenty thousand times over, in many threads.

layers: seccomp
options: --memory 64MiB --open-files 20000 --pids 320
measures: kernel memory
"""
import resource
import threading

from kernel_memory import *

THREADS, ENTRY, WAITER = 300, 8, 64
limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
inlet, outlet = os.pipe()
# Descriptors of their own are not needed: each entry waits.
entries = struct.pack("ihh", inlet, 1, 0) * limit
table = ctypes.create_string_buffer(entries, len(entries))
refused = []
threading.stack_size(64 << 10)


def wait():
    result = libc.poll(table, ctypes.c_ulong(limit), 6000)
    if result < 0:
        refused.append(reason())


for _ in range(THREADS):
    try:
        threading.Thread(target=wait, daemon=True).start()
    except RuntimeError:
        break
time.sleep(3)
waiting = threading.active_count() - 1
held(waiting * limit * (ENTRY + WAITER), f"poll tables in {waiting} threads", refused and refused[0])
