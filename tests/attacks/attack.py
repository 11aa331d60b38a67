"""What every case imports: system calls by name, and the three words that end an attack."""
import ctypes
import errno
import mmap
import os
import platform
import resource
import select
import socket
import struct
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
    "capset": (126, 91), "clock_adjtime": (305, 266), "getpid": (39, 172), "io_setup": (206, 0),
    "fadvise64": (221, 223), "ioctl": (16, 29), "preadv2": (327, 286), "pwritev2": (328, 287), "open_tree_attr": (467, 467), "setsockopt": (54, 208), "statx": (332, 291),
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


def tried(result, evidence, past=(), missing=()):
    """Ends by the result of `syscall`. `past` are errors which the kernel gives only after it has
    agreed that the caller may, `missing` those of a kernel that has no such thing."""
    if result >= 0:
        through(evidence)
    if reason() in past:
        through(f"{evidence} ({reason()} comes after the question who may)")
    if reason() in missing:
        absent(f"the kernel answers {reason()}")
    stopped()


def try_socket(family, kind, protocol, name):
    """Ends by whether such a socket can be made. `name` is that of the protocol in
    /proc/net/protocols, without which, and without a module for it, there is nothing to attack."""
    try:
        socket.socket(family, kind, protocol)
    except OSError as error:
        with open("/proc/net/protocols") as known:
            there = any(line.split()[0] == name for line in known)
        if not there and not loadable(f"net-pf-{family}"):
            absent(f"the kernel has no {name} sockets")
        stopped(errno.errorcode[error.errno])
    through(f"a socket of family {family}")


def loadable(alias):
    """Whether the running kernel has a module of that name."""
    try:
        with open(f"/lib/modules/{platform.release()}/modules.alias") as aliases:
            return any(line.split()[1:2] == [alias] for line in aliases)
    except OSError:
        return False


def child(does):
    """How a child ends that does this: its exit code, or minus the signal that ended it."""
    pid = os.fork()
    if pid == 0:
        os._exit(does() & 0xFF)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def init():
    """The id of the cell's first process, where that is not the attack itself."""
    if os.getpid() == 1:
        absent("PID 1 is the attack itself")
    return 1


def address(buffer):
    """Where a buffer of ctypes lies."""
    return ctypes.addressof(buffer)


def machine_code(code):
    """A function of numbers, made of these instructions."""
    page = mmap.mmap(-1, len(code), prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(code)
    start = address(ctypes.c_char.from_buffer(page))
    function = ctypes.CFUNCTYPE(ctypes.c_int, *[ctypes.c_long] * 3)(start)
    function.page = page
    return function


def filter_that_allows():
    """A seccomp program (struct sock_fprog) that allows every call."""
    SECCOMP_RET_ALLOW = 0x7FFF0000
    code = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, SECCOMP_RET_ALLOW), 8)
    program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", 1, address(code)), 16)
    program.code = code
    return program


def watched(paths, seconds):
    """What inotify(7) tells of these paths in that time, by name; the caller opens nothing meanwhile."""
    IN_ALL_EVENTS = 0xFFF
    fd = libc.inotify_init1(os.O_CLOEXEC)
    marks = {libc.inotify_add_watch(fd, path.encode(), IN_ALL_EVENTS): path for path in paths}
    if fd < 0 or -1 in marks:
        stopped()
    if not select.select([fd], [], [], seconds)[0]:
        return []
    data, seen = os.read(fd, 65536), []
    while data:
        mark, mask, _, length = struct.unpack_from("iIII", data)
        name = data[16 : 16 + length].rstrip(b"\0").decode()
        seen.append(f"{marks.get(mark)} {name} {mask:#x}")
        data = data[16 + length :]
    return seen


def large_program():
    """A large file that all cells and the host share, open for reading and in memory."""
    programs = (f"/usr/bin/{name}" for name in os.listdir("/usr/bin"))
    readable = (path for path in programs if os.path.isfile(path) and os.access(path, os.R_OK))
    file = os.open(max(readable, key=os.path.getsize), os.O_RDONLY)
    os.pread(file, 1 << 22, 0)
    return file


def read_from_disk(does):
    """How many bytes this process had read from a disk while it did this."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_inblock
    does()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_inblock - before) << 9


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
