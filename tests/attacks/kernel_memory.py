"""For attacks on kernel memory that no control group counts. They run with `--memory 64MiB`, are through when
they hold more than that and 32 MiB, and end with 600 MiB or after ten seconds."""
import signal
import time

from attack import *

ENOUGH = (64 + 32) << 20
MOST = 600 << 20
BEGAN = time.monotonic()
DESCRIPTORS = 1000


def held(size, what, why=""):
    """Ends by how many bytes of the kernel's memory it holds, and stays until the harness has seen that."""
    time.sleep(0.4)
    text = f"{size / (1 << 20):.1f} MiB of {what}" + (f", then {why}" if why else "")
    through(text) if size > ENOUGH else stopped(text)


def late():
    """Whether ten seconds are over."""
    return time.monotonic() - BEGAN > 10


def in_queues(sock):
    """How many bytes of the kernel's memory wait in a socket's queues, by its own count."""
    SOL_SOCKET, SO_MEMINFO = 1, 55
    values = struct.unpack("9I", sock.getsockopt(SOL_SOCKET, SO_MEMINFO, 36))
    received, sent = values[0], values[2]
    return received + sent


def many(make, size, count=DESCRIPTORS):
    """Makes up to `count` things. Comes back with how many bytes they have, and why there are no more."""
    kept, total, why = [], 0, ""
    try:
        while len(kept) < count and total < MOST and not late():
            kept.append(make(len(kept)))
            total += size(kept[-1]) if callable(size) else size
    except OSError as error:
        why = errno.errorcode[error.errno]
    # Kept for as long as the process lives.
    globals().setdefault("everything", []).append(kept)
    return total, why


def in_processes(count, does):
    """Lets so many processes do this one after another; each comes back with how many bytes it holds, and
    why no more, and stays. Comes back with the sum."""
    global MOST
    total, why = 0, ""
    for _ in range(count):
        inlet, outlet = os.pipe()
        if os.fork() == 0:
            signal.alarm(20)
            MOST -= total
            try:
                size, why = does()
            except OSError as error:
                size, why = 0, errno.errorcode[error.errno]
            os.write(outlet, f"{size} {why}\n".encode())
            signal.pause()
        os.close(outlet)
        # Empty if it was killed.
        size, _, last = open(inlet).readline().strip().partition(" ")
        total, why = total + int(size or 0), last or why
        if total >= MOST or late():
            break
    return total, why
