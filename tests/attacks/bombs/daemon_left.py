"""Ends, and leaves a daemon behind. The harness looks whether that one lives.

layers: init
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
stopped("unless the daemon lives")
