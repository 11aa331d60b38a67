"""Leaves a file in a folder of the host where everybody may.

layers: mounts, landlock
"""
from attack import *

os.close(os.open(witness("FOLDER") + "/open/was-here", os.O_CREAT | os.O_WRONLY, 0o600))
through("a file was made")
