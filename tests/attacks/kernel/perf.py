"""Measures itself with perf_event_open(2), as any user may at kernel.perf_event_paranoid=2.

layers: seccomp
"""
from attack import *

PERF_TYPE_SOFTWARE, PERF_COUNT_SW_TASK_CLOCK = 1, 1
DISABLED, EXCLUDE_KERNEL, EXCLUDE_HV = 1, 1 << 5, 1 << 6
attributes = struct.pack(
    "IIQQQQQIIQ", PERF_TYPE_SOFTWARE, 64, PERF_COUNT_SW_TASK_CLOCK, 0, 0, 0,
    DISABLED | EXCLUDE_KERNEL | EXCLUDE_HV, 0, 0, 0,
)
# Debian's kernels refuse it to ordinary users, by another error than the filter's.
result = syscall("perf_event_open", attributes, 0, -1, -1, 0)
tried(result, "a counter", missing=["EACCES", "ENOSYS"])
