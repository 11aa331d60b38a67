"""Makes as many inotify instances as it can and keeps them.

layers: none
"""
import signal

from attack import *

kept = 0
# Fewer than the descriptors that one process may have.
while kept < 900 and libc.inotify_init1(os.O_CLOEXEC) >= 0:
    kept += 1
print("ready", flush=True)
signal.pause()
