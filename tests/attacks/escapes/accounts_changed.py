"""Opens for writing what decides who is who: passwd, group, the loader's preload list.

layers: mounts, landlock, users
"""
from attack import *

for path in ("/etc/passwd", "/etc/group", "/etc/hosts", "/etc/ld.so.cache"):
    try:
        os.open(path, os.O_WRONLY)
        through(f"{path} can be written")
    except OSError as error:
        why = errno.errorcode[error.errno]
try:
    os.close(os.open("/etc/ld.so.preload", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    os.unlink("/etc/ld.so.preload")
    through("/etc/ld.so.preload can be made")
except OSError as error:
    why = errno.errorcode[error.errno]
stopped(why)
