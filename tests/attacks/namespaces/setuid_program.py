"""Executes a program that makes everybody root, and looks as whom it runs.

layers: mounts, capabilities, user-namespace
"""
import subprocess

from attack import *

# It fails for want of a password, and is looked at before it is reaped.
if not os.path.exists("/usr/bin/su") or not os.stat("/usr/bin/su").st_mode & 0o4000:
    absent("no su with the setuid bit")
nothing = subprocess.DEVNULL
program = subprocess.Popen(["/usr/bin/su"], stdin=nothing, stdout=nothing, stderr=nothing)
os.waitid(os.P_PID, program.pid, os.WEXITED | os.WNOWAIT)
with open(f"/proc/{program.pid}/status") as status:
    effective = next(line.split()[2] for line in status if line.startswith("Uid:"))
through("effective uid 0") if effective == "0" else stopped(f"effective uid {effective}")
