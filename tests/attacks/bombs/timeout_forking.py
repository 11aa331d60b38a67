"""Forty lines of processes that each fork and end, so that whoever kills by a list is always late.

layers: clock, init
options: --timeout 1s --pids 200
verdict: timeout
"""
import time

from attack import *

end_at = time.monotonic() + 6

def forked():
    """Whether this is the child; there is none while those before it hold all that are allowed."""
    try:
        return os.fork() == 0
    except BlockingIOError:
        return False


for _ in range(40):
    if forked():
        while time.monotonic() < end_at:
            try:
                if os.fork() != 0:
                    os._exit(0)
            except BlockingIOError:
                pass
            os.setsid() if os.getsid(0) != os.getpid() else None
        os._exit(0)
time.sleep(8)
through("8 s have passed")
