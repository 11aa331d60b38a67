"""Closes its output and goes on: whoever waits for the output's end forgets the clock.

layers: clock
options: --timeout 1s
verdict: timeout
"""
import time

from attack import *

os.closerange(0, 3)
time.sleep(8)
