"""Maps more users into its namespace, root among them.

layers: kernel
"""
from attack import *

for process in ("self", "1"):
    for name, value in [("uid_map", "0 0 1"), ("uid_map", "0 1000 1"), ("gid_map", "0 0 1")]:
        try:
            with open(f"/proc/{process}/{name}", "w") as file:
                file.write(value)
            through(f"{name} is {value}")
        except OSError as error:
            why = errno.errorcode[error.errno]
stopped(why)
