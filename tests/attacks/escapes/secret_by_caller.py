"""Looks into the memory, files and environment of the process that started it.

layers: init, landlock
"""
from attack import *

for name in ("environ", "exe", "maps", "mem", "fd", "root", "cwd", "auxv", "task/1/environ"):
    path = f"/proc/{os.getppid()}/{name}"
    try:
        if name in ("exe", "root", "cwd"):
            through(f"{path} is {os.readlink(path)}")
        if name == "fd":
            through(f"{path} has {os.listdir(path)}")
        with open(path, "rb") as file:
            through(f"{path} can be opened: {file.name}")
    except OSError as error:
        why = errno.errorcode[error.errno]
stopped(why)
