"""Opens a file by its handle instead of its path: the host's root folder (the escape "shocker").

layers: seccomp, kernel
"""
from attack import *

FILEID_INO32_GEN, ROOT = 1, 2
handle = ctypes.create_string_buffer(struct.pack("IiII", 8, FILEID_INO32_GEN, ROOT, 0), 16)
mount = os.open("/usr", os.O_RDONLY)
# A stale handle was looked up.
tried(syscall("open_by_handle_at", mount, handle, os.O_RDONLY), "a file", past=["ESTALE"])
