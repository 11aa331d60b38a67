"""Reads a file of the host through a link that it made itself.

layers: mounts
"""
from attack import *

os.chdir("/tmp")
name = f"link-{os.getpid()}"
os.symlink(witness("FOLDER"), name)
try:
    with open(name + "/secret") as secret:
        text = secret.read().strip()
finally:
    os.unlink(name)
through(text)
