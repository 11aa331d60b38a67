"""Opens and closes connections, of which the kernel remembers each for a minute (TIME_WAIT) and charges nobody for it.

layers: network
options: --memory 64MiB
"""
from kernel_memory import *

MANY = 20_000


def remembered():
    for line in open("/proc/self/net/sockstat"):
        words = line.split()
        if words[0] == "TCP:":
            return int(words[words.index("tw") + 1])


listener = socket.socket()
listener.bind(("0.0.0.0", 0))
listener.listen(16)
port = listener.getsockname()[1]
count = 0
while count < 30_000 and remembered() <= MANY and not late():
    for _ in range(64):
        # Several addresses, since one has 28,000 ports at most.
        client = socket.create_connection((f"127.0.0.{1 + count % 8}", port))
        listener.accept()[0].close()
        client.close()
        count += 1
text = f"{remembered()} of {count} connections are remembered"
through(text) if remembered() > MANY else stopped(text)
