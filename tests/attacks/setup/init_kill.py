"""Kills and stops the cell's PID 1, for which no limit of time would hold then.

layers: landlock, init
"""
import signal

from attack import *

refused = set()
for number in signal.SIGKILL, signal.SIGSTOP, signal.SIGTSTP, signal.SIGTERM, signal.SIGCHLD:
    try:
        os.kill(init(), number)
    except OSError as error:
        refused.add(errno.errorcode[error.errno])
with open("/proc/1/stat") as stat:
    state = stat.read().rpartition(")")[2].split()[0]
through("PID 1 is stopped") if state in "Tt" else stopped(f"PID 1 goes on, {refused or 'unmoved'}")
