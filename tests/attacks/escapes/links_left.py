"""Leaves links to the host's files where host code might pick up results, and follow them.

layers: descriptors
"""
from attack import *

for name in ("result", "output", "stdout", "core", "report.json", ".profile"):
    os.symlink(witness("FOLDER") + "/open/followed", f"/job/{name}")
stopped("unless the host follows one")
