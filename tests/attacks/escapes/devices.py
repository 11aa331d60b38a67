"""Opens every device node under /dev but those that are harmless.

layers: view
"""
from attack import *

harmless = {"null", "zero", "full", "random", "urandom"}
opened = []
for folder, _, files in os.walk("/dev"):
    for name in files:
        path = f"{folder}/{name}"
        # Opening a watchdog or a tape would do something.
        if name in harmless or os.path.islink(path) or "watchdog" in name or name.startswith(("st", "nst")):
            continue
        try:
            os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY))
            opened.append(path)
        except OSError:
            pass
through(opened[:10]) if opened else stopped("nothing else can be opened")
