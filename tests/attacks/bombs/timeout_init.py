"""Sends every signal to the cell's first process, so that nobody is left to end the job in time.

layers: clock, init
options: --timeout 1s
verdict: timeout
"""
import signal
import time

from attack import *

with open("/proc/1/comm") as comm:
    of_the_host = comm.read().strip() in ("systemd", "init")
if not of_the_host and os.getuid() != 0:
    for number in [*range(1, signal.SIGRTMAX + 1), signal.SIGSTOP]:
        try:
            os.kill(1, number)
        except OSError:
            pass
time.sleep(8)
through("8 s have passed")
