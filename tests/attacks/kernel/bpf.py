"""Makes a BPF map. The kernel refuses it too, unless kernel.unprivileged_bpf_disabled=0.

layers: seccomp, kernel
"""
from attack import *

BPF_MAP_CREATE, BPF_MAP_TYPE_ARRAY = 0, 2
attributes = struct.pack("IIII", BPF_MAP_TYPE_ARRAY, 4, 4, 1)
tried(syscall("bpf", BPF_MAP_CREATE, attributes, len(attributes)), "a BPF map")
