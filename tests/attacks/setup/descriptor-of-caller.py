"""Reads the caller's descriptor 9, which is inheritable.

layers: descriptors
"""
import os

try:
    content = os.pread(9, 64, 0)
except OSError as error:
    content = error

from attack import *

through(content) if isinstance(content, bytes) else stopped(errno.errorcode[content.errno])
