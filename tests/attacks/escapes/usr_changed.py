"""Changes mode, owner and times of a file in /usr (to what they are), which no Landlock rule covers.

layers: mounts, users
"""
from attack import *

path = "/usr/lib/os-release"
was = os.stat(path)
for act in (
    lambda: os.chmod(path, was.st_mode & 0o7777),
    lambda: os.chown(path, was.st_uid, was.st_gid),
    lambda: os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns)),
    lambda: os.utime(path),
):
    try:
        act()
        through("it was changed")
    except OSError as error:
        why = errno.errorcode[error.errno]
stopped(why)
