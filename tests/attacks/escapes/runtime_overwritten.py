"""Opens the program of the process that started it, to overwrite it (CVE-2019-5736).

layers: init, landlock
"""
from attack import *

program = os.open(f"/proc/{os.getppid()}/exe", os.O_PATH)
os.readlink(f"/proc/self/fd/{program}")
through("the runtime's program can be held open, to be written to once it is not running")
