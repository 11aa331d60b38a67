"""Makes a file of a tebibyte without a single page, for whoever copies it out.

layers: rlimits
"""
import resource

from attack import *

try:
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
except ValueError:
    pass
file = os.open("/tmp", os.O_TMPFILE | os.O_WRONLY, 0o600)
os.ftruncate(file, 1 << 40)
through("a file of 1 TiB")
