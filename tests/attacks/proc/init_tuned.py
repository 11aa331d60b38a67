"""Tunes the cell's first process, which runs as the same user: its OOM score, its name, its group's share.

layers: init
"""
from attack import *

if os.stat("/proc/1/ns").st_uid == 0:
    stopped("process 1 is root's")
for name, value in [
    ("oom_score_adj", "1000"), ("coredump_filter", "0x7f"), ("autogroup", "19"),
    ("timerslack_ns", "1000000000"),
]:
    try:
        with open(f"/proc/1/{name}", "w") as file:
            file.write(value)
        through(f"{name} was set")
    except OSError as error:
        why = errno.errorcode[error.errno]
stopped(why)
