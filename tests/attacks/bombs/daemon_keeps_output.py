"""Ends, and leaves a daemon that holds the output open: whoever waits for its end waits for the daemon.

layers: init
"""
import time

from attack import *

if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(8)
    os._exit(0)
os.wait()
stopped("unless the daemon lives")
