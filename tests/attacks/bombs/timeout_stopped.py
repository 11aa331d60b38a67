"""Stops itself, so that it neither ends nor answers to a polite signal.

layers: clock
options: --timeout 1s
verdict: timeout
"""
import signal
import time

from attack import *

if os.fork() == 0:
    time.sleep(8)
    os.kill(os.getppid(), signal.SIGCONT)
    os._exit(0)
os.kill(os.getpid(), signal.SIGSTOP)
through("stopped for 8 s")
