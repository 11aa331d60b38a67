"""Has the dynamic loader log by the job's environment, which nothing but the job may have.

layers: init
options: --env LD_DEBUG=files --env LD_DEBUG_OUTPUT=/tmp/loaded
needs: cloister
"""
from attack import *

logs = set(os.listdir("/tmp"))
own = f"loaded.{os.getpid()}"
if own not in logs:
    absent("this C library keeps no such log")
through(logs) if logs != {own} else stopped("the job alone was loaded with it")
