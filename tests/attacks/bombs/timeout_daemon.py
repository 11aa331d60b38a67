"""Leaves its session and its parent (two forks and setsid), then outlives the timeout.

layers: clock, init
options: --timeout 1s
verdict: timeout
"""
import time

from attack import *

if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.closerange(0, 3)
        time.sleep(8)
    os._exit(0)
os.wait()
time.sleep(8)
through("8 s have passed")
