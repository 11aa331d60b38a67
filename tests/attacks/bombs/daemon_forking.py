"""Ends, and leaves lines of processes that each fork and end, one of which might slip through.

layers: init
options: --pids 200
"""
import time

from attack import *

end_at = time.monotonic() + 6
for _ in range(40):
    if os.fork() == 0:
        os.closerange(0, 3)
        os.setsid()
        while time.monotonic() < end_at:
            try:
                if os.fork() != 0:
                    os._exit(0)
            except BlockingIOError:
                pass
        os._exit(0)
stopped("unless one of them lives")
