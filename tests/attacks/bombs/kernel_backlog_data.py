"""Connects to listeners that never accept, sends what the connection takes, and closes its own end: the data stays
with the other ends, which belong to no control group until they are accepted.

layers: watcher
options: --memory 64MiB
measures: kernel memory
"""
from kernel_memory import *

QUEUE = 4000


class Listener(socket.socket):
    held = 0


def queue(_):
    listener = Listener(socket.AF_INET, socket.SOCK_STREAM)
    listener.bind(("127.0.0.1", 0))
    listener.listen(QUEUE)
    for _ in range(QUEUE):
        client = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        client.connect(listener.getsockname())
        listener.held += client.send(bytes(60_000), socket.MSG_DONTWAIT)
        client.close()
        if late() or listener.held > MOST // 4:
            break
    return listener


total, why = in_processes(8, lambda: many(queue, lambda listener: listener.held, 1))
held(total, "data of connections", why)
