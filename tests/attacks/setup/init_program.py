"""Executes the program of the cell's PID 1 by /proc/1/exe, which is the host's (CVE-2019-5736).

layers: landlock, init
"""
import subprocess

from attack import *

through(subprocess.run([f"/proc/{init()}/exe", "--version"], capture_output=True).stdout)
