"""Lists the descriptors of the cell's PID 1.

layers: init
"""
from attack import *

through(os.listdir(f"/proc/{init()}/fd"))
