"""Waits for a child that never gets as far as exec: such a wait takes no signal but SIGKILL.

layers: clock
options: --timeout 1s
verdict: timeout
"""
import time

from attack import *

fifo = f"/tmp/fifo-{os.getpid()}"
os.mkfifo(fifo)
if os.fork() == 0:
    time.sleep(8)
    os.close(os.open(fifo, os.O_WRONLY))
    os.unlink(fifo)
    os._exit(0)
os.posix_spawn("/bin/true", ["true"], {}, file_actions=[(os.POSIX_SPAWN_OPEN, 0, fifo, os.O_RDONLY, 0)])
through("8 s have passed")
