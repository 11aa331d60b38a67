/* What ordinary programs ask of the kernel beyond files and pipes. Exits non-zero at the first
 * answer that they would not expect. */
#define _GNU_SOURCE
#include <err.h>
#include <ifaddrs.h>
#include <netdb.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

#define EXPECT(what) \
	do { \
		if (!(what)) \
			err(1, "%s", #what); \
	} while (0)

static void *thread(void *sum)
{
	__atomic_fetch_add((int *)sum, 1, __ATOMIC_SEQ_CST);
	return NULL;
}

static void threads(void)
{
	int sum = 0;
	pthread_t all[8];
	for (int i = 0; i < 8; i++)
		EXPECT(pthread_create(&all[i], NULL, thread, &sum) == 0);
	for (int i = 0; i < 8; i++)
		EXPECT(pthread_join(all[i], NULL) == 0);
	EXPECT(sum == 8);
}

/* As multiprocessing does it. */
static void processes(void)
{
	sem_t *done = mmap(NULL, sizeof *done, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	EXPECT(done != MAP_FAILED && sem_init(done, 1, 0) == 0);
	pid_t child = fork();
	EXPECT(child >= 0);
	if (child == 0)
		_exit(sem_post(done));
	EXPECT(sem_wait(done) == 0 && waitpid(child, NULL, 0) == child);

	int status;
	char *argv[] = { "true", NULL };
	EXPECT(posix_spawnp(&child, "true", NULL, NULL, argv, environ) == 0);
	EXPECT(waitpid(child, &status, 0) == child && status == 0);
}

static void network(void)
{
	struct ifaddrs *addresses;
	EXPECT(getifaddrs(&addresses) == 0);
	freeifaddrs(addresses);
	struct addrinfo *found, hints = { .ai_flags = AI_NUMERICHOST | AI_ADDRCONFIG };
	EXPECT(getaddrinfo("127.0.0.1", "80", &hints, &found) == 0);
	freeaddrinfo(found);
	int pair[2];
	EXPECT(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
	EXPECT(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0) >= 0);
}

static void descriptors(void)
{
	sigset_t usr1;
	sigemptyset(&usr1);
	sigaddset(&usr1, SIGUSR1);
	EXPECT(signalfd(-1, &usr1, SFD_CLOEXEC) >= 0);
	EXPECT(epoll_create1(0) >= 0 && eventfd(0, 0) >= 0 && inotify_init1(0) >= 0);
	EXPECT(timerfd_create(CLOCK_MONOTONIC, 0) >= 0);
	int file = memfd_create("file", MFD_CLOEXEC);
	EXPECT(file >= 0 && ftruncate(file, 4096) == 0);
}

/* As just-in-time compilers do it. */
static void code(void)
{
	char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	EXPECT(page != MAP_FAILED && getrandom(page, 16, 0) == 16);
	EXPECT(mprotect(page, 4096, PROT_READ | PROT_EXEC) == 0);
	EXPECT(mprotect(page, 4096, PROT_READ | PROT_WRITE | PROT_EXEC) == 0);
}

int main(void)
{
	threads();
	processes();
	network();
	descriptors();
	code();
	puts("ordinary");
}
