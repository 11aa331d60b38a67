"""Looks whether the cell's PID 1, a copy of the launcher, shows how that was started.

layers: init
"""
from attack import *

with open(f"/proc/{init()}/cmdline", "rb") as line:
    words = line.read()
told = [word for word in words.split(b"\0") if word.startswith(b"--") or b"WITNESS" in word]
through(told) if told else stopped(f"it is called {words.strip(bytes(1) + b' ').decode()}")
