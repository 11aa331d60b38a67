"""Reads the memory of another process of its own, a child, with process_vm_readv(2).

layers: seccomp
"""
import signal

from attack import *

secret = ctypes.create_string_buffer(b"in the child", 12)
copy = ctypes.create_string_buffer(12)
here = struct.pack("PN", address(copy), 12)
there = struct.pack("PN", address(secret), 12)
pid = os.fork()
if pid == 0:
    signal.pause()
result = syscall("process_vm_readv", pid, here, 1, there, 1, 0)
os.kill(pid, signal.SIGKILL)
tried(result, f"read {copy.raw}")
