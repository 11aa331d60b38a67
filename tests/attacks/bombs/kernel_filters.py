"""Installs seccomp filters of 4,096 instructions in many threads. What they are compiled to takes from a budget of
the whole host (bpf_jit_limit), after which no cell starts.

layers: seccomp
options: --memory 512MiB --pids 700
"""
import threading

from kernel_memory import *

SECCOMP_SET_MODE_FILTER, RETURN, LOAD, ALLOW = 1, 0x06, 0x20, 0x7FFF0000
LENGTH, BYTES = 4096, 8
MANY = 16 << 20
code = struct.pack("HBBI", LOAD, 0, 0, 0) * (LENGTH - 1) + struct.pack("HBBI", RETURN, 0, 0, ALLOW)
code = ctypes.create_string_buffer(code, len(code))
program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", LENGTH, address(code)), 16)
installed, refused = [], []
done = threading.Semaphore(0)
threading.stack_size(64 << 10)


def install():
    # All filters of a thread together have 32,768 instructions at most, and each counts four more.
    for _ in range(7):
        if syscall("seccomp", SECCOMP_SET_MODE_FILTER, 0, program) != 0:
            refused.append(reason())
            break
        installed.append(LENGTH * BYTES)
    done.release()
    time.sleep(20)


for _ in range(600):
    if refused or late():
        break
    try:
        threading.Thread(target=install, daemon=True).start()
    except RuntimeError:
        refused.append("no more threads")
        break
    done.acquire()
time.sleep(0.4)
text = f"{len(installed)} filters, {sum(installed) / (1 << 20):.1f} MiB"
text += f", then {refused[0]}" if refused else ""
through(text) if sum(installed) > MANY else stopped(text)
