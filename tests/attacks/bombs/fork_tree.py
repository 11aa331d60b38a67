"""Each process starts two more, as a fork bomb does.

layers: cgroups, rlimits
options: --pids 32
"""
import signal

from attack import *

inlet, outlet = os.pipe()


def grow(depth):
    signal.alarm(6)
    os.write(outlet, b"+")
    if depth < 7:
        for _ in "ab":
            try:
                if os.fork() == 0:
                    grow(depth + 1)
            except BlockingIOError:
                os.write(outlet, b"-")
    signal.pause()


first = os.fork()
if first == 0:
    os.setpgid(0, 0)
    grow(1)
seen = b""
while seen.count(b"+") < 127 and b"-" not in seen:
    seen += os.read(inlet, 100)
os.killpg(first, signal.SIGKILL)
count = seen.count(b"+")
through(f"{count} processes at once") if count > 32 else stopped(f"{count} processes, then EAGAIN")
