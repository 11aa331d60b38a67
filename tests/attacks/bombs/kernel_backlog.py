"""Connects to listeners that never accept, and closes its own end: the other ends stay in their queues, made while
the kernel worked for nobody.

layers: watcher
options: --memory 64MiB
measures: kernel memory
"""
from kernel_memory import *

# A struct tcp_sock in its slab, and what the kernel remembers of the other end.
SOCKET = 4000
QUEUE = 4000


def queue(_):
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.bind(("0.0.0.0", 0))
    listener.listen(QUEUE)
    port = listener.getsockname()[1]
    for number in range(QUEUE):
        client = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        # Some hundreds to each address: a port that is used twice for one delays its connection.
        client.connect((f"127.0.0.{1 + number // 500}", port))
        client.close()
        if late():
            break
    return listener


total, why = in_processes(4, lambda: many(queue, QUEUE * SOCKET, 100))
held(total, "connections", why)
