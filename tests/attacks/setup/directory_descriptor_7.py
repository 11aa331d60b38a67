"""Is started in a directory named by another descriptor of the cell's PID 1 (CVE-2024-21626).

layers: descriptors
options: --cwd /proc/self/fd/7
verdict: exit_code
needs: cloister
"""
from attack import *

through(f"it is in {os.getcwd()}")
