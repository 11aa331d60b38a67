"""Opens files of the folder that this one is in, which is exposed, all the time.

layers: none
"""
import signal

from attack import *

signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
print("ready", flush=True)
while True:
    with open(os.path.join(os.path.dirname(__file__), "inotify_exposed.py")) as file:
        file.read()
