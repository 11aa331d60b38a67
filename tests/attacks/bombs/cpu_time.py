"""Spends its CPU time in many short processes, none of which comes near the limit by itself.

layers: clock
options: --cpu-time 1s --cpus 2
verdict: cpu_time
"""
import time

from attack import *

end_at = time.monotonic() + 9
used = 0.0
while used < 2.5 and time.monotonic() < end_at:
    if os.fork() == 0:
        while time.process_time() < 0.05:
            pass
        os._exit(0)
    os.wait()
    times = os.times()
    used = times.children_user + times.children_system
through(f"{used} s of CPU time") if used >= 2.5 else stopped(f"{used} s of CPU time")
