"""Nests folders thousands deep, on which programs that clean up recursively run out of stack.

layers: tmpfs
options: --disk 4MiB
"""
from attack import *

os.chdir("/tmp")
depth, why = 0, ""
try:
    while depth < 2500:
        os.mkdir("deep")
        os.chdir("deep")
        depth += 1
except OSError as error:
    why = errno.errorcode[error.errno]
for _ in range(depth):
    os.chdir("..")
    os.rmdir("deep")
through(f"{depth} folders deep") if depth > 2000 else stopped(f"{why} at a depth of {depth}")
