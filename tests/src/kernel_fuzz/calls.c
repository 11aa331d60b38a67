// Makes random system calls with many descriptors, for tests/src/kernel_fuzz. It runs in a cell:
//
//     calls SEED SECONDS [NAME...]
//
// Several processes make a few calls of the table below with random arguments for some seconds, then others (swarm testing:
// a sequence without close holds more). A line with the counts of all calls is
// printed every second: `counts: NAME=COUNT ...`. With NAMEs only these calls are made.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/netlink.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PROCESSES 8
#define CHILDREN 2
#define FILES 900
// Pipes and pairs of sockets of a process: what is in them is charged, and would end the cell.
#define PAIRS 24
#define REGIONS 64
#define BUFFER (1 << 17)
// The largest size that `size` comes back with.
#define LARGEST (65536 * 2)
#define AT_ONCE 10
// Milliseconds with the same calls.
#define PERIOD 2500

// Arguments, one letter each:
//   f a descriptor              a a socket's address, whose length l is
//   s a size                    d data: zeros, random, or a netlink request
//   p room in the buffer        n a path
//   i a small number            b one bit, or none
//   z zero                      t a time of at most a millisecond
//   v some struct iovec         m a struct msghdr
//   g a mapping                 k a struct flock, or a number
//   e a struct epoll_event      u a struct pollfd for each descriptor
// and one of a list: D domain, T type and P protocol of a socket, L level and O name of its option, N the option's
// length, M flags of a message, C command of fcntl, E of epoll_ctl, W flags of open, R limit, G signal, A advice,
// S of shutdown, H of flock, V protection, X kind of mapping.
enum result { NOTHING, FILE_RESULT, PAIR, REGION };
static const struct call {
    const char *name;
    long number;
    const char *arguments;
    enum result result;
} CALLS[] = {
#define CALL(name, arguments, result) {#name, SYS_##name, arguments, result}
    CALL(socket, "DTP", FILE_RESULT), CALL(socketpair, "DTPp", PAIR), CALL(bind, "fal", NOTHING),
    CALL(connect, "fal", NOTHING), CALL(listen, "fs", NOTHING), CALL(accept4, "fzzz", FILE_RESULT),
    CALL(sendto, "fdsMal", NOTHING), CALL(recvfrom, "fpsMzz", NOTHING), CALL(sendmsg, "fmM", NOTHING),
    CALL(recvmsg, "fmM", NOTHING), CALL(setsockopt, "fLOdN", NOTHING), CALL(getsockopt, "fLOpp", NOTHING),
    CALL(shutdown, "fS", NOTHING), CALL(getsockname, "fpp", NOTHING),
    CALL(pipe2, "pb", PAIR), CALL(eventfd2, "ib", FILE_RESULT), CALL(timerfd_create, "ib", FILE_RESULT),
    CALL(timerfd_settime, "fipz", NOTHING), CALL(signalfd4, "fpib", FILE_RESULT),
    CALL(epoll_create1, "z", FILE_RESULT), CALL(epoll_ctl, "fEfe", NOTHING), CALL(epoll_pwait, "fpizzz", NOTHING),
    CALL(inotify_init1, "b", FILE_RESULT), CALL(inotify_add_watch, "fnb", NOTHING),
    CALL(inotify_rm_watch, "fi", NOTHING), CALL(memfd_create, "nb", FILE_RESULT), CALL(ftruncate, "fs", NOTHING),
    CALL(fallocate, "fbss", NOTHING), CALL(openat, "fnWi", FILE_RESULT), CALL(close, "f", NOTHING),
    CALL(read, "fps", NOTHING), CALL(write, "fds", NOTHING), CALL(readv, "fvi", NOTHING),
    CALL(writev, "fvi", NOTHING), CALL(pread64, "fpss", NOTHING), CALL(lseek, "fsi", NOTHING),
    CALL(sendfile, "ffzs", NOTHING), CALL(splice, "fzfzsb", NOTHING), CALL(tee, "ffsb", NOTHING),
    CALL(vmsplice, "fvib", NOTHING), CALL(copy_file_range, "fzfzsz", NOTHING), CALL(dup, "f", FILE_RESULT),
    CALL(fcntl, "fCk", NOTHING), CALL(flock, "fH", NOTHING), CALL(ioctl, "fsp", NOTHING),
    CALL(ppoll, "uitzz", NOTHING), CALL(getdents64, "fps", NOTHING), CALL(fadvise64, "fssA", NOTHING),
    CALL(mmap, "zsVXfz", REGION), CALL(munmap, "gs", NOTHING), CALL(mprotect, "gsV", NOTHING),
    CALL(madvise, "gsA", NOTHING), CALL(mlock, "gs", NOTHING), CALL(mincore, "gsp", NOTHING),
    CALL(msync, "gsi", NOTHING), CALL(mkdirat, "fni", NOTHING), CALL(unlinkat, "fnb", NOTHING),
    CALL(symlinkat, "nfn", NOTHING), CALL(linkat, "fnfnz", NOTHING), CALL(renameat2, "fnfnb", NOTHING),
    CALL(readlinkat, "fnps", NOTHING), CALL(utimensat, "fnpz", NOTHING), CALL(statx, "fnisp", NOTHING),
    CALL(fsync, "f", NOTHING), CALL(getxattr, "nnps", NOTHING),
    CALL(shmget, "isb", NOTHING), CALL(shmctl, "iip", NOTHING), CALL(semget, "isb", NOTHING),
    CALL(semctl, "iiis", NOTHING), CALL(semtimedop, "idit", NOTHING), CALL(msgget, "ib", NOTHING),
    CALL(msgsnd, "idsb", NOTHING), CALL(msgrcv, "ipsib", NOTHING), CALL(mq_open, "nWip", FILE_RESULT),
    CALL(mq_timedsend, "fdsit", NOTHING), CALL(mq_timedreceive, "fpspt", NOTHING), CALL(mq_unlink, "n", NOTHING),
    CALL(mq_notify, "fp", NOTHING), CALL(timer_create, "ipp", NOTHING), CALL(timer_settime, "iipz", NOTHING),
    CALL(timer_delete, "i", NOTHING), CALL(rt_sigqueueinfo, "iGp", NOTHING), CALL(futex, "pbsttp", NOTHING),
    CALL(pidfd_open, "iz", FILE_RESULT), CALL(prlimit64, "zRdp", NOTHING), CALL(getrusage, "zp", NOTHING),
    CALL(sched_yield, "", NOTHING), CALL(membarrier, "bzz", NOTHING), CALL(landlock_create_ruleset, "dsz", FILE_RESULT),
    CALL(getrandom, "psb", NOTHING), CALL(ioprio_set, "iis", NOTHING), CALL(clock_nanosleep, "zztz", NOTHING),
    CALL(close_range, "ffz", NOTHING), CALL(sync_file_range, "fssb", NOTHING), CALL(readahead, "fss", NOTHING),
    CALL(preadv2, "fvizzb", NOTHING), CALL(recvmmsg, "fpibt", NOTHING),
    {"filter", -1, "", NOTHING}, {"fork", -2, "", NOTHING},
};
#define COUNT (sizeof CALLS / sizeof *CALLS)

static uint64_t state;
static long *counts;
static int files[FILES], file_count, file_limit = FILES, pairs;
static struct { char *start; size_t size; } regions[REGIONS];
static int children;
static char *buffer;
static socklen_t address_length;

static uint64_t next(void) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state * 0x2545F4914F6CDD1D >> 16;
}
static long below(long limit) { return next() % limit; }
#define PICK(...) ({ const long list[] = {__VA_ARGS__}; list[below(sizeof list / sizeof *list)]; })

static long size(void) {
    long large = PICK(64, 4096, 60000, 65536);
    return PICK(0, 1, 4, 8) + (below(2) ? below(large) : large);
}

// Often the same as before: much comes of several calls for one descriptor only.
static int file(void) {
    static int favourite;
    if (!file_count) return -1;
    if (below(4) == 0) return files[below(file_count)];
    if (favourite >= file_count || below(16) == 0) favourite = below(file_count);
    return files[favourite];
}
static char *room(void) { return buffer + BUFFER / 2 + below(BUFFER / 4); }

static void keep(long file) {
    if (file < 3) return;
    if (file_count >= file_limit) {
        int victim = below(file_count);
        syscall(SYS_close, files[victim]);
        files[victim] = file;
    } else {
        files[file_count++] = file;
    }
}

static void *address(void) {
    struct sockaddr_storage *name = (void *)room();
    memset(name, 0, sizeof *name);
    in_port_t port = htons(PICK(0, 9, 7000 + below(16)));
    switch (below(5)) {
    case 0:
    case 1:
        *(struct sockaddr_in *)name = (struct sockaddr_in){AF_INET, port, {htonl(0x7f000001)}, {0}};
        address_length = sizeof(struct sockaddr_in);
        break;
    case 2:
        *(struct sockaddr_in6 *)name =
            (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = port, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
        address_length = sizeof(struct sockaddr_in6);
        break;
    case 3:
        *(struct sockaddr_un *)name = (struct sockaddr_un){AF_UNIX, {0, 'f', 'a' + below(26)}};
        address_length = offsetof(struct sockaddr_un, sun_path) + 3;
        break;
    default:
        *(struct sockaddr_nl *)name = (struct sockaddr_nl){.nl_family = AF_NETLINK};
        address_length = sizeof(struct sockaddr_nl);
    }
    return name;
}

static void *data(void) {
    switch (below(5)) {
    case 0: {
        struct nlmsghdr *request = (void *)room();
        *request = (struct nlmsghdr){PICK(16, 20, 60000), PICK(18, 22, 26, 30, 5000), PICK(1, 5, 0x301), 1, 0};
        return request;
    }
    case 1: {
        int *number = (void *)room();
        number[0] = PICK(0, 1, 2, 16, 64, -1, 1 << 20, 1 << 30), number[1] = below(3), number[2] = 0, number[3] = 0;
        return number;
    }
    case 2:
        return address();
    case 3:
        return buffer + BUFFER / 4 * 3;
    default:
        return buffer;
    }
}

static struct iovec *vectors(void) {
    struct iovec *list = (void *)(buffer + BUFFER / 8);
    for (int i = 0; i < 16; i++) list[i] = (struct iovec){room(), below(8192)};
    return list;
}

static void *message(void) {
    struct msghdr *message = (void *)(buffer + BUFFER / 8 + 1024);
    struct cmsghdr *rights = (void *)(message + 1);
    memset(message, 0, sizeof *message + 64);
    if (below(2)) message->msg_name = address(), message->msg_namelen = address_length;
    message->msg_iov = vectors(), message->msg_iovlen = below(16);
    if (below(2)) {
        rights->cmsg_len = CMSG_LEN(sizeof(int)), rights->cmsg_level = SOL_SOCKET, rights->cmsg_type = SCM_RIGHTS;
        *(int *)CMSG_DATA(rights) = file();
        message->msg_control = rights, message->msg_controllen = CMSG_SPACE(sizeof(int));
    }
    return message;
}

static long any(char kind) {
    switch (kind) {
    case 'f': return file();
    case 's': return size();
    case 'p': return (long)room();
    case 'i': return below(17);
    case 'b': return below(3) ? 1L << below(20) : 0;
    case 'a': return below(4) ? (long)address() : (address_length = 0);
    case 'l': return address_length;
    case 'd': return (long)data();
    case 'v': return (long)vectors();
    case 'm': return (long)message();
    case 'n': {
        static const char *const paths[] = {"/usr/bin/env", "/usr/bin", "/dev/null", "/dev/zero", "/proc/self/maps",
                                            "/proc/self/status", "/etc/passwd", "/", "/dev/shm", "/proc/self/fd"};
        if (below(3) == 0) return (long)paths[below(sizeof paths / sizeof *paths)];
        char *path = room();
        sprintf(path, "/%s/%c%ld", below(2) ? "job" : "tmp", (char)('a' + below(26)), below(64));
        return (long)path;
    }
    case 't': {
        struct timespec *time = (void *)room();
        *time = (struct timespec){0, below(1000000)};
        return (long)time;
    }
    case 'k': {
        if (below(2)) return PICK(0, 1, 2, 4096, 65536, 1 << 20, 0x2000, 0x2800);
        struct flock *lock = (void *)room();
        *lock = (struct flock){PICK(F_RDLCK, F_WRLCK, F_UNLCK), SEEK_SET, 2 * below(1 << 20), 1, 0};
        return (long)lock;
    }
    case 'e': {
        struct epoll_event *event = (void *)room();
        *event = (struct epoll_event){.events = PICK(EPOLLIN, EPOLLOUT, EPOLLIN | EPOLLET)};
        return (long)event;
    }
    case 'u': {
        struct { int fd; short events, got; } *list = (void *)(buffer + BUFFER / 8 + 4096);
        for (int i = 0; i < 16; i++) list[i].fd = file(), list[i].events = 1;
        return (long)list;
    }
    case 'g': return (long)regions[below(REGIONS)].start;
    case 'D': return PICK(AF_UNIX, AF_INET, AF_INET, AF_INET, AF_INET6, AF_INET6, AF_NETLINK);
    case 'T': return PICK(SOCK_STREAM, SOCK_STREAM, SOCK_DGRAM, SOCK_DGRAM, SOCK_RAW, SOCK_SEQPACKET) | SOCK_NONBLOCK;
    case 'P': return PICK(0, 0, 0, 0, IPPROTO_UDP, IPPROTO_TCP);
    case 'L': return PICK(SOL_SOCKET, IPPROTO_IP, IPPROTO_IPV6, IPPROTO_TCP, IPPROTO_UDP, 270);
    case 'O': return below(80);
    case 'N': return PICK(4, 4, 8, 12, 16, 20, 40, 136, 216);
    case 'M': return MSG_DONTWAIT | PICK(0, 0, MSG_MORE, MSG_OOB, MSG_PEEK, MSG_ERRQUEUE, 0x4000000, MSG_NOSIGNAL);
    case 'C': return PICK(F_SETLK, F_SETLK, 37, F_SETPIPE_SZ, F_SETLEASE, F_NOTIFY, F_SETFL, F_SETOWN, F_SETSIG,
                          F_DUPFD, F_ADD_SEALS, F_GETFL);
    case 'E': return PICK(EPOLL_CTL_ADD, EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLL_CTL_MOD);
    case 'W': return O_NONBLOCK | PICK(O_RDONLY, O_RDWR, O_RDWR | O_CREAT, O_WRONLY | O_CREAT | O_TRUNC, O_PATH,
                                       O_TMPFILE | O_RDWR);
    case 'R': return PICK(RLIMIT_CORE, RLIMIT_SIGPENDING, RLIMIT_MSGQUEUE, RLIMIT_MEMLOCK, RLIMIT_RTPRIO);
    case 'G': return PICK(SIGRTMIN, SIGRTMIN + 1, SIGRTMIN + 5);
    case 'A': return below(26);
    case 'S': return below(3);
    case 'H': return LOCK_NB | PICK(LOCK_SH, LOCK_EX, LOCK_UN);
    case 'V': return PICK(PROT_NONE, PROT_READ, PROT_READ | PROT_WRITE);
    case 'X': return PICK(MAP_PRIVATE | MAP_ANONYMOUS, MAP_SHARED | MAP_ANONYMOUS, MAP_SHARED, MAP_PRIVATE);
    default: return 0;
    }
}

// Kinds that may have the same value for some thousand calls, and that value.
static const char STEADY[] = "sDTPLONMCEWRASHVX";
static long steady[128];
static char is_steady[128];

static long argument(char kind) { return is_steady[(int)kind] ? steady[(int)kind] : any(kind); }

static void choose_steady(void) {
    for (const char *kind = STEADY; *kind; kind++) {
        is_steady[(int)*kind] = below(2);
        steady[(int)*kind] = any(*kind);
    }
}

static void deny_nothing(void) {
    // It returns at once; the rest is there to be compiled.
    static struct sock_filter code[4096];
    for (int i = 0; i < 4096; i++) code[i] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog program = {PICK(1, 64, 4096), code};
    syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program);
}

static void interrupt(int signal) { (void)signal; }

// Calls that wait are interrupted.
static void do_not_wait(void) {
    struct sigaction action = {.sa_handler = interrupt};
    sigaction(SIGALRM, &action, 0);
    setitimer(ITIMER_REAL, &(struct itimerval){{0, 2000}, {0, 2000}}, 0);
}

static void make(const struct call *call, int depth);

// Another process that makes some calls of the same kind, and stays.
static void start(const unsigned *chosen, int of, int depth) {
    if (depth || children == CHILDREN) return;
    pid_t parent = getpid();
    pid_t pid = fork();
    if (pid < 0) return;
    if (pid > 0) {
        children++;
        return;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(0);
    do_not_wait();
    for (int i = 0; i < 5000; i++) make(&CALLS[chosen[below(of)]], 1);
    for (;;) pause();
}

static unsigned chosen[AT_ONCE];
static int chosen_count;

static void make(const struct call *call, int depth) {
    if (call->number == -1) {
        // Each makes all later calls slower.
        if (depth && below(50) == 0) deny_nothing();
        return;
    }
    if (call->number == -2) return start(chosen, chosen_count, depth);
    if (call->number == SYS_close_range && below(50)) return;
    // What is there is used for a while before it is replaced.
    if ((call->result == FILE_RESULT || call->result == PAIR) && file_count >= file_limit && below(64)) return;
    if (call->result == PAIR && pairs >= PAIRS) return;
    long values[6] = {0};
    for (int i = 0; call->arguments[i]; i++) values[i] = argument(call->arguments[i]);
    if (call->arguments[0] == 'g')
        for (int i = 0; i < REGIONS; i++)
            if ((long)regions[i].start == values[0] && values[1] > (long)regions[i].size) values[1] = regions[i].size;
    if (call->number == SYS_mmap && values[3] & MAP_ANONYMOUS) values[4] = -1;
    if (call->number == SYS_rt_sigqueueinfo) values[0] = getpid(), *(int *)(values[2] + 8) = -1;
    if (call->number == SYS_close_range && values[0] < 3) return;
    __atomic_fetch_add(&counts[call - CALLS], 1, __ATOMIC_RELAXED);
    long result = syscall(call->number, values[0], values[1], values[2], values[3], values[4], values[5]);
    if (call->number == SYS_close)
        for (int i = 0; i < file_count; i++)
            if (files[i] == values[0]) files[i--] = files[--file_count];
    if (result < 0) return;
    if (call->result == FILE_RESULT) keep(result);
    if (call->result == PAIR) {
        int *pair = (int *)values[call->number == SYS_pipe2 ? 0 : 3];
        keep(pair[0]), keep(pair[1]);
        pairs++;
    }
    if (call->result == REGION) {
        int victim = below(REGIONS);
        if (regions[victim].start) munmap(regions[victim].start, regions[victim].size);
        regions[victim].start = (char *)result, regions[victim].size = values[1];
    }
    if (call->number == SYS_munmap || call->number == SYS_fcntl) {
        // Descriptors of F_DUPFD, and mappings that are gone, are known no more.
        if (call->number == SYS_fcntl && values[1] == F_DUPFD) keep(result);
        for (int i = 0; call->number == SYS_munmap && i < REGIONS; i++)
            if ((long)regions[i].start == values[0]) regions[i].start = 0;
    }
}

static long milliseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static uint64_t seed_of_all;
static long began;

// What is done for a while.
static void plan(const unsigned *allowed, int allowed_count) {
    for (int i = 0; i < 8; i++) next();
    chosen_count = allowed_count < AT_ONCE ? allowed_count : 3 + below(AT_ONCE - 2);
    for (int i = 0; i < chosen_count; i++)
        chosen[i] = allowed_count < AT_ONCE ? allowed[i] : allowed[below(allowed_count)];
    choose_steady();
    file_limit = PICK(16, 100, FILES, FILES);
}

static void work(uint64_t seed, const unsigned *allowed, int allowed_count) {
    state = seed * 0x9E3779B97F4A7C15 | 1;
    for (int i = 0; i < 8; i++) next();
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    sigset_t interrupting;
    sigemptyset(&interrupting);
    sigaddset(&interrupting, SIGALRM);
    sigprocmask(SIG_UNBLOCK, &interrupting, 0);
    buffer = mmap(0, BUFFER + LARGEST, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (int i = 0; i < BUFFER / 4; i++) buffer[BUFFER / 4 * 3 + i] = next();
    do_not_wait();
    for (;;) {
        // All processes do the same at a time, with other arguments: alone, one has too few descriptors.
        long period = (milliseconds() - began) / PERIOD;
        uint64_t own = state;
        state = (seed_of_all * 1000003 + period) * 0x9E3779B97F4A7C15 | 1;
        plan(allowed, allowed_count);
        state = own;
        while ((milliseconds() - began) / PERIOD == period)
            for (int i = 0; i < 200; i++) {
                // Nothing can be done without descriptors.
                if (below(16) == 0) make(&CALLS[PICK(0, 0, 0, 0, 0, 0, 0, 0, 1, 14, 28)], 0);
                make(&CALLS[chosen[below(chosen_count)]], 0);
            }
        // Closed, or kept for other calls.
        if (below(3) || file_count > 100)
            for (pairs = 0; file_count;) syscall(SYS_close, files[--file_count]);
        while (children && waitpid(-1, 0, WNOHANG) > 0) children--;
    }
}

static void tell(void) {
    printf("counts:");
    for (unsigned i = 0; i < COUNT; i++)
        if (counts[i]) printf(" %s=%ld", CALLS[i].name, counts[i]);
    printf("\n");
    fflush(stdout);
}

int main(int argc, char **argv) {
    if (argc < 3) return 2;
    uint64_t seed = strtoull(argv[1], 0, 10);
    time_t until = time(0) + atoi(argv[2]);
    unsigned allowed[COUNT];
    int allowed_count = 0;
    for (unsigned i = 0; i < COUNT; i++) {
        int wanted = argc == 3;
        for (int word = 3; word < argc; word++) wanted |= !strcmp(argv[word], CALLS[i].name);
        if (wanted) allowed[allowed_count++] = i;
    }
    if (!allowed_count) return 2;
    counts = mmap(0, sizeof(long) * COUNT, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    // Descriptors and timers that are asked to send signals must not end it.
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, 0);
    struct rlimit most;
    getrlimit(RLIMIT_NOFILE, &most);
    most.rlim_cur = most.rlim_max;
    setrlimit(RLIMIT_NOFILE, &most);
    uint64_t started = 0;
    seed_of_all = seed, began = milliseconds();
    int alive = 0;
    while (time(0) < until) {
        while (alive < PROCESSES) {
            pid_t pid = fork();
            if (pid == 0) work(seed * 1000 + started, allowed, allowed_count);
            if (pid < 0) break;
            alive++, started++;
        }
        // One that a call of its own has killed is replaced.
        while (alive && waitpid(-1, 0, WNOHANG) > 0) alive--;
        nanosleep(&(struct timespec){0, 250000000}, 0);
        tell();
    }
    return 0;
}
