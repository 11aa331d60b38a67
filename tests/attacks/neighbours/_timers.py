"""Makes as many POSIX timers as it can and keeps them: each holds a pending signal ready.

layers: none
"""
import resource
import signal

from attack import *

_, hard = resource.getrlimit(resource.RLIMIT_SIGPENDING)
resource.setrlimit(resource.RLIMIT_SIGPENDING, (hard, hard))
timer = ctypes.c_void_p()
while libc.timer_create(0, None, ctypes.byref(timer)) == 0:
    pass
print("ready", flush=True)
signal.pause()
