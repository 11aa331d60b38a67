"""Changes the domain of the host, or of the cell.

layers: seccomp, capabilities
"""
from attack import *

tried(syscall("setdomainname", b"attack", 6), "the domain")
