"""Can make no inotify instance, since a neighbour has all that the kernel gives to the owner of their
user namespaces (`fs.inotify.max_user_instances`): the neighbour's attack, seen by its victim.

layers: user-owner
neighbour: _inotify.py
"""
from attack import *

if libc.inotify_init1(os.O_CLOEXEC) >= 0:
    stopped("one can be made")
through(f"none can be made beside a neighbour: {reason()}")
