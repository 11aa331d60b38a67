"""Two busy processes that were given a fifth of a core.

layers: cgroups
options: --cpus 0.2
"""
import time

from attack import *

end_at = time.monotonic() + 2
for _ in range(2):
    if os.fork() == 0:
        while time.monotonic() < end_at:
            pass
        os._exit(0)
os.wait(), os.wait()
times = os.times()
used = times.children_user + times.children_system
through(f"{used} s of CPU in 2 s") if used > 0.9 else stopped(f"{used} s of CPU in 2 s")
