//go:build ignore

/* calls LIMIT: one thread for each call that a stop interrupts. Each makes its call once, with LIMIT
 * seconds or until the main thread ends it at the end of its input, and says how it ended:
 *
 *	NAME ok
 *	NAME wrong: result R, errno E, after MS ms
 *
 * A call with a limit must not end before it, by the clock of the job. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/prctl.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static int limit;      /* seconds */
static int ended[2];   /* a pipe: readable when the endless calls must end */
static int watch, queue;

static struct timespec span(void) { return (struct timespec){limit, 0}; }

static long c_poll(void) { return poll(NULL, 0, limit * 1000); }
static long c_epoll(void) { struct epoll_event e; return epoll_wait(epoll_create1(0), &e, 1, limit * 1000); }
static long c_epoll2(void)
{
	struct epoll_event e;
	struct timespec t = span();
	return syscall(SYS_epoll_pwait2, epoll_create1(0), &e, 1, &t, NULL, 0);
}
static long c_sleep(void) { return sleep(limit); }
static long c_usleep(void) { return usleep(limit * 1000000); }
static long c_clock(void)
{
	struct timespec t = span();
	return clock_nanosleep(CLOCK_MONOTONIC, 0, &t, NULL);
}
static long c_futex(void)
{
	static uint32_t word;
	struct timespec t = span();
	return syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, &t, NULL, 0);
}
static long c_semwait(void)
{
	sem_t s;
	struct timespec t;
	sem_init(&s, 0, 0);
	clock_gettime(CLOCK_REALTIME, &t);
	t.tv_sec += limit;
	return sem_timedwait(&s, &t);
}
static long c_sigwait(void)
{
	sigset_t s;
	struct timespec t = span();
	sigemptyset(&s);
	sigaddset(&s, SIGUSR2);
	return sigtimedwait(&s, NULL, &t);
}
static long c_semop(void)
{
	struct sembuf op = {0, -1, 0};
	struct timespec t = span();
	return semtimedop(semget(IPC_PRIVATE, 1, 0600), &op, 1, &t);
}
static long c_receive(void)
{
	int s[2];
	char c;
	struct timeval t = {limit, 0};
	socketpair(AF_UNIX, SOCK_STREAM, 0, s);
	setsockopt(s[0], SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t);
	return recv(s[0], &c, 1, 0);
}
static long c_inotify(void) { char b[4096]; return read(watch, b, sizeof b) > 0 ? 0 : -1; }
static long c_events(void)
{
	struct epoll_event e = {.events = EPOLLIN}, got;
	int fd = epoll_create1(0);
	epoll_ctl(fd, EPOLL_CTL_ADD, ended[0], &e);
	return epoll_wait(fd, &got, 1, -1) == 1 ? 0 : -1;
}
static long c_signal(void)
{
	sigset_t s;
	sigemptyset(&s);
	sigaddset(&s, SIGUSR1);
	return sigwaitinfo(&s, NULL) == SIGUSR1 ? 0 : -1;
}
static long c_take(void) { struct sembuf op = {0, -1, 0}; return semop(queue, &op, 1); }

static struct call {
	const char *name;
	long (*make)(void);
	int limited, wants; /* the errno of its end, 0: it returns 0 */
	pthread_t thread;
} calls[] = {
	{"poll", c_poll, 1, 0}, {"epoll_wait", c_epoll, 1, 0}, {"epoll_pwait2", c_epoll2, 1, 0}, {"sleep", c_sleep, 1, 0},
	{"usleep", c_usleep, 1, 0}, {"clock_nanosleep", c_clock, 1, 0}, {"futex", c_futex, 1, ETIMEDOUT},
	{"sem_timedwait", c_semwait, 0, ETIMEDOUT}, {"sigtimedwait", c_sigwait, 1, EAGAIN}, {"semtimedop", c_semop, 1, EAGAIN},
	{"recv", c_receive, 1, EAGAIN}, {"inotify", c_inotify, 0, 0}, {"epoll_wait_endless", c_events, 0, 0},
	{"sigwaitinfo", c_signal, 0, 0}, {"semop", c_take, 0, 0},
};
#define N (sizeof calls / sizeof *calls)

static long long now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void *make(void *arg)
{
	struct call *c = arg;
	prctl(PR_SET_NAME, c->name);
	long long began = now();
	errno = 0;
	long r = c->make();
	int e = errno;
	long long took = now() - began;
	if (r == (c->wants ? -1 : 0) && (!c->wants || e == c->wants) && (!c->limited || took >= limit * 1000000000LL))
		printf("%s ok\n", c->name);
	else
		printf("%s wrong: result %ld, errno %d (%s), after %lld ms\n", c->name, r, e, strerror(e), took / 1000000);
	return NULL;
}

int main(int argc, char **argv)
{
	sigset_t s;
	if (argc != 2 || (limit = atoi(argv[1])) <= 0)
		return 2;
	setvbuf(stdout, NULL, _IOLBF, 0);
	sigemptyset(&s);
	sigaddset(&s, SIGUSR1);
	sigaddset(&s, SIGUSR2);
	sigprocmask(SIG_BLOCK, &s, NULL);
	queue = semget(IPC_PRIVATE, 1, 0600);
	watch = inotify_init();
	if (pipe(ended) < 0 || inotify_add_watch(watch, "/tmp", IN_CREATE) < 0)
		return 1;
	for (size_t i = 0; i < N; i++)
		if (pthread_create(&calls[i].thread, NULL, make, &calls[i]))
			return 1;
	printf("ready\n");
	for (size_t i = 0; i < N; i++)
		if (calls[i].limited || calls[i].wants)
			pthread_join(calls[i].thread, NULL);
	struct sembuf give = {0, 1, 0};
	if (write(ended[1], "x", 1) < 0 || mkstemp((char[]){"/tmp/createdXXXXXX"}) < 0 || semop(queue, &give, 1) < 0)
		return 1;
	kill(getpid(), SIGUSR1);
	for (size_t i = 0; i < N; i++)
		if (!calls[i].limited && !calls[i].wants)
			pthread_join(calls[i].thread, NULL);
	printf("done\n");
	return 0;
}
