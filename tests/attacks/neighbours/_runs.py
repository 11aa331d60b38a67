"""Starts programs of /usr all the time.

layers: none
"""
import signal
import subprocess

from attack import *

signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
print("ready", flush=True)
while True:
    subprocess.run(["/usr/bin/true"])
    # Their names are looked up in /etc/passwd.
    subprocess.run(["/usr/bin/id"], stdout=subprocess.PIPE)
