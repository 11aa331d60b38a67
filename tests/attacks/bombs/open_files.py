"""Opens more files than it was given, after trying to give itself more.

layers: rlimits
options: --open-files 64
"""
import resource

from attack import *

try:
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, 512))
except ValueError:
    pass
for count in range(200):
    os.open("/dev/null", os.O_RDONLY)
through("200 files are open")
