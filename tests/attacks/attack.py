"""What every case imports: system calls by name, and the three words that end an attack."""
import ctypes
import errno
import os
import platform
import sys

ARCH = platform.machine()
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long

# Numbers of x86-64, and of aarch64 (the generic table); None where it has none.
NUMBERS = {
    "add_key": (248, 217), "bpf": (321, 280), "chroot": (161, 51), "clock_settime": (227, 112),
    "clone": (56, 220), "clone3": (435, 435), "delete_module": (176, 106), "fanotify_init": (300, 262),
    "finit_module": (313, 273), "fsconfig": (431, 431), "fsmount": (432, 432), "fsopen": (430, 430),
    "fspick": (433, 433), "init_module": (175, 105), "io_uring_setup": (425, 425), "iopl": (172, None),
    "ioperm": (173, None), "kcmp": (312, 272), "kexec_load": (246, 104), "kexec_file_load": (320, 294),
    "keyctl": (250, 219), "lookup_dcookie": (212, 18), "mbind": (237, 235), "memfd_secret": (447, 447),
    "mknodat": (259, 33), "modify_ldt": (154, None), "mount": (165, 40), "mount_setattr": (442, 442),
    "move_mount": (429, 429), "move_pages": (279, 239), "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265), "open_tree": (428, 428), "openat2": (437, 437),
    "perf_event_open": (298, 241), "personality": (135, 92), "pidfd_getfd": (438, 438),
    "pidfd_open": (434, 434), "pidfd_send_signal": (424, 424), "pivot_root": (155, 41),
    "prctl": (157, 167), "process_madvise": (440, 440), "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271), "ptrace": (101, 117), "quotactl": (179, 60), "reboot": (169, 142),
    "request_key": (249, 218), "seccomp": (317, 277), "setdomainname": (171, 162),
    "sethostname": (170, 161), "setns": (308, 268), "settimeofday": (164, 170), "shmget": (29, 194),
    "swapoff": (168, 225), "swapon": (167, 224), "syslog": (103, 116), "umount2": (166, 39),
    "unshare": (272, 97), "userfaultfd": (323, 282), "vhangup": (153, 58), "acct": (163, 89),
    "adjtimex": (159, 171), "nfsservctl": (180, 42), "vmsplice": (316, 75), "shmat": (30, 196),
    "semget": (64, 190), "msgget": (68, 186), "mq_open": (240, 180), "quotactl_fd": (443, 443),
    "landlock_create_ruleset": (444, 444), "cachestat": (451, 451), "futex": (202, 98),
    "get_mempolicy": (236, 236), "set_mempolicy": (238, 237), "migrate_pages": (256, 238),
    "listmount": (458, 458), "statmount": (457, 457), "lsm_set_self_attr": (460, 460),
}


def syscall(name, *args):
    """The result; -1 on failure, and then `ctypes.get_errno()` has the reason."""
    number = NUMBERS[name][0 if ARCH == "x86_64" else 1]
    if number is None:
        absent(f"{ARCH} has no {name}")
    return libc.syscall(ctypes.c_long(number), *[
        ctypes.c_long(a) if isinstance(a, int) else a for a in args
    ])


def reason():
    """The name of the last failure of `syscall`."""
    number = ctypes.get_errno()
    return errno.errorcode.get(number, str(number))


def end(word, text):
    print(f"{word}: {text}", flush=True)
    os._exit(0)


def through(evidence):
    """It got what it wanted."""
    end("through", evidence)


def stopped(why=None):
    """It was refused; by the last `syscall`'s errno unless told otherwise."""
    end("stopped", why or reason())


def absent(what):
    """This kernel has nothing to attack here."""
    end("absent", what)


def uncaught(kind, error, _trace):
    # What the kernel refuses by an exception is what most cases hope for.
    if issubclass(kind, OSError):
        name = errno.errorcode.get(error.errno, str(error.errno))
        stopped(f"{name}: {error.filename or error.strerror}")
    sys.__excepthook__(kind, error, _trace)


sys.excepthook = uncaught


def witness(name):
    """What the harness holds outside: see README.md."""
    return os.environ["WITNESS_" + name]
