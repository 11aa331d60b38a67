"""Takes the cell's /proc away, under which there is the launcher's, with all processes of the host.

layers: seccomp, landlock, capabilities
"""
from attack import *

MNT_DETACH = 2
result = syscall("umount2", b"/proc", MNT_DETACH)
tried(result, f"{len(os.listdir('/proc'))} entries in /proc")
