"""Opens everything below /proc/sys for writing.

layers: masks, landlock
"""
from attack import *

opened = []
for folder, _, files in os.walk("/proc/sys"):
    for name in files:
        try:
            os.close(os.open(f"{folder}/{name}", os.O_WRONLY))
            opened.append(f"{folder}/{name}")
        except OSError:
            pass
through(opened[:10]) if opened else stopped("nothing can be opened for writing")
