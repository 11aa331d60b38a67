"""Executes a setuid program of root's, and looks as whom it runs.

layers: mounts, capabilities, user-namespace
"""
import stat
import subprocess

from attack import *

found = ""
for name in ("su", "passwd", "chsh", "mount"):
    path = f"/usr/bin/{name}"
    if not os.path.exists(path) or not os.stat(path).st_mode & stat.S_ISUID:
        continue
    found = path
    pipe = subprocess.PIPE
    # It is executed when this comes back; until it is waited for, its entry in /proc stays.
    child = subprocess.Popen([path], stdin=pipe, stdout=pipe, stderr=pipe)
    with open(f"/proc/{child.pid}/status") as status:
        uids = [line.split()[1:] for line in status if line.startswith("Uid:")][0]
    child.communicate()
    if uids[1] == "0":
        through(f"{path} runs as root")
stopped(f"{found} does not run as root") if found else absent("no setuid program in /usr/bin")
