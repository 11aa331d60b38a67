"""Takes its standard streams for folders, and climbs from there.

layers: descriptors
"""
from attack import *

for number in range(3):
    try:
        file = os.open("../" * 32 + witness("FOLDER").lstrip("/") + "/secret", os.O_RDONLY, dir_fd=number)
        through(os.read(file, 100))
    except OSError as error:
        why = errno.errorcode[error.errno]
stopped(why)
