"""Renames and replaces the folders that stand at the root of its view.

layers: mounts, landlock, kernel
"""
from attack import *

RENAME_EXCHANGE, AT_FDCWD = 2, -100
for one, other in [("/job", "/old"), ("/job", "/tmp/job"), ("/job", "/dev/shm/job")]:
    try:
        os.rename(one, other)
        os.rename(other, one)
        through(f"{one} was renamed to {other}")
    except OSError as error:
        why = errno.errorcode[error.errno]
for other in (b"/tmp", b"/dev/shm", b"/etc"):
    if libc.renameat2(AT_FDCWD, b"/job", AT_FDCWD, other, RENAME_EXCHANGE) == 0:
        libc.renameat2(AT_FDCWD, b"/job", AT_FDCWD, other, RENAME_EXCHANGE)
        through(f"/job and {other} were exchanged")
for path in ("/made", "/etc/made", "/dev/made"):
    try:
        os.symlink("/", path)
        os.unlink(path)
        through(f"{path} was made")
    except OSError as error:
        why = errno.errorcode[error.errno]
stopped(why)
