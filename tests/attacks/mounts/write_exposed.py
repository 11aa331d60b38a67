"""Makes a file in a folder that was exposed, in which everybody may.

layers: mounts, landlock
"""
from attack import *

os.close(os.open(witness("FOLDER") + "/open/attack", os.O_CREAT | os.O_WRONLY))
through("a file in the exposed folder")
