"""Changes the name of the host, or of the cell.

layers: seccomp, capabilities
"""
from attack import *

tried(syscall("sethostname", b"attack", 6), os.uname().nodename)
