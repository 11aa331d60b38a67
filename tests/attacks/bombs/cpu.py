"""Four busy processes that were given a fifth of a core.

layers: cgroups
options: --cpus 0.2 --timeout 60s
"""
import time

from attack import *

# Up to 8 seconds: on a loaded machine what is not limited takes longer to show.
SHARE, began = 0.2, time.monotonic()
for _ in range(4):
    if os.fork() == 0:
        while time.monotonic() < began + 8 and time.process_time() < 0.4:
            pass
        os._exit(0)
for _ in range(4):
    os.wait()
spent = os.times()
used, took = spent.children_user + spent.children_system, time.monotonic() - began
text = f"{used:.2f} s of CPU in {took:.2f} s"
through(text) if used > 2 * SHARE * took else stopped(text)
