"""Has every process of the host recorded; in a file that does not exist.

layers: seccomp, kernel
"""
from attack import *

tried(syscall("acct", b"/nonexistent"), "the accounts", past=["ENOENT"])
