"""Twenty processes that each take a little.

layers: cgroups
options: --memory 48MiB --disk 1GiB
verdict: out_of_memory
"""
import signal

from attack import *

inlet, outlet = os.pipe()
children = []
for _ in range(20):
    children.append(os.fork())
    if children[-1] == 0:
        signal.alarm(8)
        kept = bytearray(b"x") * (10 << 20)
        os.write(outlet, b"+")
        signal.pause()
os.close(outlet)
seen = b""
while len(seen) < 20:
    piece = os.read(inlet, 20)
    if not piece:
        stopped(f"all but {len(seen)} were killed")
    seen += piece
for child in children:
    os.kill(child, signal.SIGKILL)
through("200 MiB stand")
