"""Looks, as the first thing it does, for a capability in any of its sets.

layers: capabilities
"""
status = open("/proc/self/status").read()

from attack import *

sets = dict(line.split() for line in status.splitlines() if line.startswith("Cap"))
held = {name: mask for name, mask in sets.items() if int(mask, 16)}
through(held) if held else stopped("each set is empty")
