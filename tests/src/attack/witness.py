# The witness process: holds a System V shared memory segment that anybody may use, and prints its key.
# It ends when its standard input does, so also when the harness was killed, and takes the segment away.
import ctypes
import random
import sys

IPC_CREAT, IPC_EXCL, IPC_RMID = 0o1000, 0o2000, 0
libc = ctypes.CDLL(None, use_errno=True)
segment = -1
while segment < 0:
    key = random.randrange(1, 1 << 31)
    segment = libc.shmget(key, 4096, IPC_CREAT | IPC_EXCL | 0o666)
try:
    print(key, flush=True)
    sys.stdin.read()
finally:
    libc.shmctl(segment, IPC_RMID, None)
