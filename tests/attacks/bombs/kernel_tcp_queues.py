"""Fills connections that nobody reads, and closes the end that sent: what was not taken over yet belongs to no process
any more.

layers: watcher
options: --memory 64MiB
measures: kernel memory
"""
from kernel_memory import *


class End(socket.socket):
    held = 0


def full(_):
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.bind(("127.0.0.1", 0))
    listener.listen(1)
    client = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    client.connect(listener.getsockname())
    server = End(fileno=listener.accept()[0].detach())
    client.setblocking(False)
    try:
        while True:
            server.held += client.send(bytes(1 << 16))
    except BlockingIOError:
        return server


total, why = in_processes(4, lambda: many(full, lambda server: server.held))
held(total, "unread data", why)
