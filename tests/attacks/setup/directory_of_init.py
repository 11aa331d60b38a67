"""Is started in the directory of the cell's PID 1.

layers: init
options: --cwd /proc/1/cwd
verdict: exit_code
needs: cloister
"""
from attack import *

through(f"it is in {os.getcwd()}")
