"""Puts another file in the place of /etc/passwd.

layers: mounts, landlock, users
"""
from attack import *

os.unlink("/etc/passwd")
with open("/etc/passwd", "w") as users:
    users.write("root::0:0::/:/bin/sh\n")
through("another /etc/passwd")
