"""Makes a segment, a semaphore, a message queue and a POSIX queue that everybody may use.

layers: none
"""
import signal

from attack import *

KEY, IPC_CREAT, IPC_RMID = 0x6E656962, 0o1000, 0
segment = libc.shmget(KEY, 4096, IPC_CREAT | 0o666)
semaphore = libc.semget(KEY, 1, IPC_CREAT | 0o666)
queue = libc.msgget(KEY, IPC_CREAT | 0o666)
libc.mq_open(b"/neighbour", os.O_CREAT | os.O_RDWR, 0o666, None)


def leave(*_):
    libc.shmctl(segment, IPC_RMID, None)
    libc.semctl(semaphore, 0, IPC_RMID)
    libc.msgctl(queue, IPC_RMID, None)
    libc.mq_unlink(b"/neighbour")
    os._exit(0)


signal.signal(signal.SIGTERM, leave)
print("ready", flush=True)
signal.pause()
