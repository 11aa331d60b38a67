"""Executes itself over and over, so that the process looked at is never the one killed.

layers: clock
options: --timeout 1s
verdict: timeout
"""
import time

from attack import *

until = float(sys.argv[1]) if len(sys.argv) > 1 else time.monotonic() + 6
if time.monotonic() > until:
    through("6 s have passed")
os.execv(sys.executable, [sys.executable, __file__, str(until)])
