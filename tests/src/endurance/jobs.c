/* What the endurance harness runs in cells: `jobs WHAT`. In C, since an interpreter takes longer to
 * start than a cell, and there are many cells. A bomb never ends by itself unless it is refused more;
 * the limits of its cell and its timeout bound it. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MIB (1UL << 20)

static void for_ever(void) {
	for (;;) pause();
}

static void *thread(void *unused) {
	for_ever();
	return unused;
}

/* Ends with the error's number, so that the exit code tells which limit was met. */
static int met(void) {
	return errno;
}

/* ---- looking at descriptors ---- */

static double now(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

/* Prints a line for each descriptor of a process: PID NUMBER LINK; or PID closed ERRNO. */
static void list(const char *pid, const char *name) {
	char path[300], link[300];
	snprintf(path, sizeof path, "/proc/%s/fd", pid);
	DIR *folder = opendir(path);
	if (!folder) {
		printf("%s closed %d\n", name, errno);
		return;
	}
	for (struct dirent *entry; (entry = readdir(folder));) {
		if (entry->d_name[0] == '.') continue;
		ssize_t length = readlinkat(dirfd(folder), entry->d_name, link, sizeof link - 1);
		if (length < 0) length = snprintf(link, sizeof link, "unreadable %d", errno);
		link[length] = 0;
		/* The listing's own is told by its number, not by where it leads. */
		int own = !strcmp(name, "self") && atoi(entry->d_name) == dirfd(folder);
		printf("%s %s %s\n", own ? "list" : name, entry->d_name, link);
	}
	closedir(folder);
}

/* Its own descriptors and those of every other process that it sees; then it stays for a while, so
 * that cells that are started together are there together. */
static int look(int stay) {
	char self[20];
	double began = now();
	snprintf(self, sizeof self, "%d", getpid());
	list("self", "self");
	DIR *processes = opendir("/proc");
	if (!processes) return met();
	for (struct dirent *entry; (entry = readdir(processes));)
		if (atoi(entry->d_name) > 0 && strcmp(entry->d_name, self)) list(entry->d_name, entry->d_name);
	poll(NULL, 0, stay);
	printf("time %.6f %.6f\n", began, now());
	return 0;
}

/* ---- bombs ---- */

static int fork_bomb(void) {
	while (fork() >= 0 || usleep(100) <= 0) {}
	return met();
}

static int thread_bomb(void) {
	pthread_t id;
	pthread_attr_t small;
	pthread_attr_init(&small);
	pthread_attr_setstacksize(&small, 16384);
	while (pthread_create(&id, &small, thread, NULL) == 0) {}
	for_ever();
	return 0;
}

static int memory_bomb(void) {
	for (;;) {
		char *block = mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (block == MAP_FAILED) return met();
		memset(block, 1, MIB);
	}
}

static int fill(int file) {
	static char block[MIB];
	memset(block, 1, sizeof block);
	for (;;)
		if (write(file, block, sizeof block) < 0) return met();
}

static int tmpfs_bomb(void) {
	return fill(open("/job/fill", O_CREAT | O_WRONLY, 0600));
}

/* Many, since none may grow beyond the limit of a file's size. */
static int memfd_bomb(void) {
	static char block[MIB];
	memset(block, 1, sizeof block);
	for (;;)
		if (write(memfd_create("fill", 0), block, sizeof block) < 0) return met();
}

/* One page in each 2 MiB: what grows is the tables, about as much as the pages. */
static int pagetable_bomb(void) {
	for (;;) {
		char *wide = mmap(NULL, 1024 * MIB, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (wide == MAP_FAILED) return met();
		madvise(wide, 1024 * MIB, MADV_NOHUGEPAGE);
		for (unsigned long at = 0; at < 1024 * MIB; at += 2 * MIB) wide[at] = 1;
	}
}

static int inode_bomb(void) {
	char path[40];
	for (long i = 0;; i++) {
		snprintf(path, sizeof path, "/job/%ld", i);
		int file = open(path, O_CREAT | O_WRONLY, 0600);
		if (file < 0) return met();
		close(file);
	}
}

static int descriptor_bomb(void) {
	while (dup(1) >= 0) {}
	return met();
}

/* Socket pairs whose buffers are full in both directions. */
static int socket_bomb(void) {
	static char block[65536];
	int pair[2];
	while (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) == 0)
		for (int end = 0; end < 2; end++)
			while (write(pair[end], block, sizeof block) > 0) {}
	for_ever();
	return 0;
}

static int spin(int processes) {
	for (int i = 1; i < processes; i++)
		if (fork() == 0) break;
	for (volatile unsigned long turns = 1; turns; turns++) {}
	return 0;
}

static int flood(void) {
	static char block[65536];
	memset(block, 'x', sizeof block);
	for (;;)
		if (write(1, block, sizeof block) < 0) return met();
}

/* Everybody sends real-time signals, which queue, to everybody. */
static int signal_flood(void) {
	const union sigval nothing = {0};
	for (int n = SIGRTMIN; n <= SIGRTMAX; n++) signal(n, SIG_IGN);
	for (int i = 0; i < 8; i++)
		if (fork() == 0) break;
	for (int n = SIGRTMIN;; n = n < SIGRTMAX ? n + 1 : SIGRTMIN) {
		sigqueue(1, n, nothing);
		if (kill(-1, n) < 0) return met();
	}
}

/* ---- tricks ---- */

/* kill(-1) takes all of its children, and nobody else. */
static int kill_all(void) {
	int status, taken = 0;
	for (int i = 0; i < 3; i++)
		if (fork() == 0) for_ever();
	if (kill(-1, SIGKILL) < 0) return met();
	while (wait(&status) > 0) taken += WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
	printf("%d\n", taken);
	return 0;
}

static int links(void) {
	static const char *const there[] = {"/proc/1/root/etc/shadow", "/proc/1/cwd/etc/shadow",
		"/proc/self/root/../../etc/shadow", "../../../../../../etc/shadow", "/dev/fd/../../1/fd/0"};
	int through = 0;
	for (unsigned i = 0; i < sizeof there / sizeof *there; i++) {
		unlink("/job/link");
		if (symlink(there[i], "/job/link") < 0) return met();
		through += open("/job/link", O_RDWR) >= 0 || open("/job/link", O_RDONLY) >= 0;
	}
	printf("%d\n", through);
	return 0;
}

/* It lets go of everything by which it could be held. */
static int daemonise(void) {
	if (fork() == 0) {
		setsid();
		if (fork() > 0) _exit(0);
		for (int n = 1; n < 65; n++) signal(n, SIG_IGN);
		for (int n = 0; n < 3; n++) close(n);
		for_ever();
	}
	wait(NULL);
	return 0;
}

int main(int count, char **words) {
	const char *what = count > 1 ? words[1] : "";
	int number = count > 2 ? atoi(words[2]) : 0;
	static const struct { const char *name; int (*run)(void); } all[] = {
		{"fork", fork_bomb}, {"thread", thread_bomb}, {"memory", memory_bomb}, {"tmpfs", tmpfs_bomb},
		{"memfd", memfd_bomb}, {"pagetables", pagetable_bomb}, {"inodes", inode_bomb},
		{"descriptors", descriptor_bomb}, {"sockets", socket_bomb}, {"flood", flood},
		{"signals", signal_flood}, {"killall", kill_all}, {"links", links}, {"daemon", daemonise},
	};
	if (!strcmp(what, "look")) return look(number);
	if (!strcmp(what, "spin")) return spin(number);
	for (unsigned i = 0; i < sizeof all / sizeof *all; i++)
		if (!strcmp(what, all[i].name)) return all[i].run();
	fprintf(stderr, "jobs: there is no %s\n", what);
	return 99;
}
