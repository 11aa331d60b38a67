"""Ignores every signal that can be, and blocks the rest.

layers: clock
options: --timeout 1s
verdict: timeout
"""
import signal
import time

from attack import *

every = set(range(1, signal.SIGRTMAX + 1))
for number in every - {signal.SIGKILL, signal.SIGSTOP, 32, 33}:
    signal.signal(number, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
time.sleep(8)
through("8 s have passed")
