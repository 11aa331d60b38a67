"""Opens files of the cell's PID 1 for writing.

layers: init
"""
from attack import *

refused = set()
for name in "mem", "oom_score_adj", "uid_map", "clear_refs", "comm", "coredump_filter":
    try:
        os.open(f"/proc/{init()}/{name}", os.O_WRONLY)
        through(f"/proc/1/{name} is open for writing")
    except OSError as error:
        refused.add(errno.errorcode[error.errno])
stopped(", ".join(sorted(refused)))
