"""Opens devices all the time.

layers: none
"""
import signal

from attack import *

signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
print("ready", flush=True)
while True:
    for name in ("null", "zero", "full", "random", "urandom"):
        with open(f"/dev/{name}", "rb", buffering=0) as device:
            device.read(1)
