"""Opens for writing, makes and takes away files in /usr, which all jobs and the host share.

layers: mounts, landlock, users
"""
from attack import *


def make(path):
    os.close(os.open(path, os.O_CREAT | os.O_EXCL, 0o755))
    os.unlink(path)


def swap(path):
    os.rename(path, path + ".old")
    os.rename(path + ".old", path)


for act in (
    lambda: os.open(sys.executable, os.O_WRONLY),
    lambda: os.open("/usr/lib/os-release", os.O_RDWR),
    lambda: os.truncate("/usr/lib/os-release", os.stat("/usr/lib/os-release").st_size),
    lambda: make(f"/usr/bin/made-{os.getpid()}"),
    lambda: make(f"/usr/lib/made-{os.getpid()}"),
    lambda: swap("/usr/lib/os-release"),
):
    try:
        act()
        through("/usr can be written")
    except OSError as error:
        why = errno.errorcode[error.errno]
stopped(why)
