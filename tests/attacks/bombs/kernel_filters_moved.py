"""Installs seccomp filters in threads that hand theirs on to new threads and end, so that whoever
counts them thread by thread misses some.

layers: seccomp
options: --memory 512MiB --pids 700
"""
import _thread
import threading

from kernel_memory import *

SECCOMP_SET_MODE_FILTER, RETURN, LOAD, ALLOW = 1, 0x06, 0x20, 0x7FFF0000
# Short ones, which are installed fast: they are counted, and not measured.
LENGTH = 16
EACH = 14
CARRIERS = 150
# Without a certain count as many are let through, and some more where several threads ask at once.
MANY = 1024 + 128
code = struct.pack("HBBI", LOAD, 0, 0, 0) * (LENGTH - 1) + struct.pack("HBBI", RETURN, 0, 0, ALLOW)
code = ctypes.create_string_buffer(code, len(code))
program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", LENGTH, address(code)), 16)
refused = []
over = threading.Event()
threading.stack_size(64 << 10)


def carry():
    """Hands this thread's filters on, which a new thread inherits."""
    if over.is_set():
        time.sleep(20)
    while True:
        try:
            return _thread.start_new_thread(carry, ())
        except RuntimeError:
            time.sleep(0.001)


def install(done):
    for _ in range(EACH):
        if syscall("seccomp", SECCOMP_SET_MODE_FILTER, 0, program) != 0:
            refused.append(reason())
            break
    done.release()
    carry()


def alive():
    """The filters of all threads but those that the main thread has."""
    counts = []
    for task in os.listdir("/proc/self/task"):
        for line in open(f"/proc/self/task/{task}/status"):
            if line.startswith("Seccomp_filters:"):
                counts.append(int(line.split()[1]))
    return sum(counts) - len(counts) * min(counts)


for _ in range(CARRIERS):
    if len(refused) > 20 or late():
        break
    done = _thread.allocate_lock()
    done.acquire()
    _thread.start_new_thread(install, (done,))
    done.acquire()
over.set()
time.sleep(0.4)
text = f"{alive()} filters" + (f", then {refused[0]}" if refused else "")
through(text) if alive() > MANY else stopped(text)
