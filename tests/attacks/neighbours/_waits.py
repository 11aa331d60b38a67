"""Waits, recognisable by its command line.

layers: none
"""
import signal

from attack import *

print("ready", flush=True)
signal.pause()
