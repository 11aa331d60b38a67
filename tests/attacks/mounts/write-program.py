"""Opens a program of the host for writing.

layers: mounts, landlock, users
"""
from attack import *

os.close(os.open("/usr/bin/true", os.O_WRONLY))
through("/usr/bin/true")
