"""Attaches filters of 4,096 instructions to sockets, whose compiled forms take from a budget of the whole host
(bpf_jit_limit).

layers: kernel
options: --memory 64MiB
"""
from kernel_memory import *

SO_ATTACH_FILTER, RETURN, LOAD = 26, 0x06, 0x20
LENGTH, BYTES = 4096, 8
code = struct.pack("HBBI", LOAD, 0, 0, 0) * (LENGTH - 1) + struct.pack("HBBI", RETURN, 0, 0, 0xFFFF)
code = ctypes.create_string_buffer(code, len(code))
program = struct.pack("HxxxxxxP", LENGTH, address(code))


def attach(_):
    kept = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    kept.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)
    return kept


total, why = in_processes(8, lambda: many(attach, LENGTH * BYTES))
held(total, "filters, before they are compiled", why)
