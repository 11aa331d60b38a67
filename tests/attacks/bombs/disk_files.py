"""Makes so many empty files that no room for further names is left.

layers: tmpfs
options: --disk 4MiB
"""
import shutil

from attack import *

folder = f"/tmp/files-{os.getpid()}"
os.mkdir(folder)
count, why = 0, ""
try:
    while count < 2500:
        os.close(os.open(f"{folder}/{count}", os.O_CREAT, 0o600))
        count += 1
except OSError as error:
    why = errno.errorcode[error.errno]
shutil.rmtree(folder)
through(f"{count} files") if count > 2000 else stopped(f"{why} after {count} files")
