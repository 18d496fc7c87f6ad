//go:build ignore

/*
 * The oracle: a job that knows what it should see and says so when it does not.
 * It keeps state of every kind that a move has to carry, and checks all of it for as
 * long as it runs. doc.go lists flags, output and exit codes.
 *
 *   main thread   ticks every 10 ms, prints, answers signals
 *   other threads one per kind of state, started by its flag
 *   children      the process tree; what they count and find lies in shared memory
 *
 * No check measures how long anything took: the job may stand still at any instruction.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <mqueue.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PAGE = 4096, MAX_CHILDREN = 256, TICK_NS = 10 * 1000 * 1000 };
enum { EXIT_SETUP = 2, EXIT_COUNT = 31, EXIT_CLOCK = 32, EXIT_CHECK = 33 };

enum kind {
	COUNT, MEM, HIDDEN, COW, SHARED, RING, ZOMBIE, FORK, SIGNALS, TIMERS, SLEEP,
	SHM, SEM, MSG, MQUEUE, LOCKS, DELETED, SOCKET, TCP, DEVSHM, SEGMENT, MEMFD, ANON, UNLINKED, KINDS
};
static const char *const kind_names[KINDS] = {
	"count", "mem", "hidden", "cow", "shared", "ring", "zombie", "fork", "signals", "timers", "sleep",
	"shm", "sem", "msg", "mqueue", "locks", "deleted", "socket", "tcp",
	"devshm", "segment", "memfd", "anon", "unlinked"
};

/* Anonymous memory that all processes of the oracle share. */
struct shared {
	atomic_long done[KINDS];
	atomic_int failures, ending;
	pthread_mutex_t lock;
	uint64_t total, slot[MAX_CHILDREN];
};

static struct {
	long mem_mib, check_mib, dirty, tree, tcp_port, seconds, exit_code, shared_mib;
	uint64_t seed;
	key_t key;
	const char *dir, *mq_name;
	int count, sysv, mqueue, locks, deleted, socket, fields, spin;
} opt = { .check_mib = 256, .seconds = -1, .seed = 1, .key = 0x4d494700, .dir = ".", .mq_name = "/oracle" };

static struct shared *shared;
static pid_t main_pid, children[MAX_CHILDREN + 1];
static int n_children;
static int shm_id = -1, sem_id = -1, msg_id = -1, segment_id = -1;
static mqd_t mq = (mqd_t)-1;
static volatile sig_atomic_t want_end, want_state;

/* ---- output, failure, end ---- */

static void put(int fd, const char *text, size_t len)
{
	ssize_t n;
	do
		n = write(fd, text, len);
	while (n < 0 && errno == EINTR);
	if (n != (ssize_t)len && fd != STDERR_FILENO) {
		dprintf(STDERR_FILENO, "ORACLE FAIL output write of %zu bytes gave %zd: %m\n", len, n);
		_exit(EXIT_CHECK);
	}
}

static void clean_up(void)
{
	if (getpid() != main_pid)
		return;
	for (int i = 0; i < n_children; i++)
		kill(children[i], SIGKILL);
	if (shm_id >= 0)
		shmctl(shm_id, IPC_RMID, NULL);
	if (sem_id >= 0)
		semctl(sem_id, 0, IPC_RMID);
	if (msg_id >= 0)
		msgctl(msg_id, IPC_RMID, NULL);
	if (segment_id >= 0)
		shmctl(segment_id, IPC_RMID, NULL);
	if (opt.shared_mib)
		shm_unlink("/oracle-shared");
	if (mq != (mqd_t)-1)
		mq_unlink(opt.mq_name);
}

__attribute__((format(printf, 3, 4), noreturn))
static void fail_with(int code, const char *kind, const char *format, ...)
{
	while (atomic_load(&shared->ending)) /* what the others see now is the end, not damage */
		pause();
	char text[512];
	int n = snprintf(text, sizeof text, "ORACLE FAIL %s ", kind);
	va_list args;
	va_start(args, format);
	n += vsnprintf(text + n, sizeof text - n - 1, format, args);
	va_end(args);
	if (n > (int)sizeof text - 2)
		n = sizeof text - 2;
	text[n++] = '\n';
	atomic_fetch_add(&shared->failures, 1);
	put(STDERR_FILENO, text, n);
	clean_up();
	_exit(code);
}
#define FAIL(kind, ...) fail_with(EXIT_CHECK, kind_names[kind], __VA_ARGS__)
#define DONE(kind) atomic_fetch_add(&shared->done[kind], 1)

__attribute__((noreturn)) static void setup_failed(const char *what)
{
	dprintf(STDERR_FILENO, "oracle: cannot set up: %s: %m\n", what);
	clean_up();
	_exit(EXIT_SETUP);
}

/* ---- time and content ---- */

static int64_t now(clockid_t clock)
{
	struct timespec ts;
	clock_gettime(clock, &ts);
	return ts.tv_sec * 1000000000LL + ts.tv_nsec;
}

static void pause_ns(int64_t ns)
{
	struct timespec ts = { ns / 1000000000, ns % 1000000000 };
	nanosleep(&ts, NULL); /* a signal cuts it short, which every caller can take */
}

static uint64_t mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15;
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
	x = (x ^ x >> 27) * 0x94d049bb133111eb;
	return x ^ x >> 31;
}

static void fill_random(uint64_t *p, uint64_t seed, size_t bytes)
{
	uint64_t x = mix(seed) | 1;
	for (size_t i = 0; i < bytes / 8; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		p[i] = x;
	}
}

static void fill_text(char *p, uint64_t seed, size_t bytes)
{
	static const char *const words[] = { "node ", "rank ", "step ", "energy ", "0.125 ", "-1.5e-3 ", "mesh ", "\n" };
	uint64_t x = mix(seed) | 1;
	for (size_t i = 0; i < bytes; x = mix(x))
		for (const char *w = words[x % 8]; *w && i < bytes;)
			p[i++] = *w++;
}

/* A smooth field in double precision: alike at the front of each number, not at its end. */
static void fill_field(double *p, uint64_t seed, size_t bytes)
{
	double a = 250 + mix(seed) % 1000 / 7.0, b = mix(seed + 1) % 1000 / 300.0;
	for (size_t i = 0; i < bytes / sizeof *p; i++) {
		double t = i / 512.0;
		p[i] = a + b * t * (1 - t / 3);
	}
}

/* As in a simulation's memory: blocks of 1 MiB of numbers, text, and zeros until rewritten. */
static void fill_fields_page(void *p, uint64_t number, uint64_t seed, uint32_t generation)
{
	uint64_t kind = number / 256 % 3;
	if (kind == 1)
		fill_text(p, seed, PAGE);
	else if (kind == 0 || generation > 0)
		fill_field(p, seed, PAGE);
	else
		memset(p, 0, PAGE);
}

/* Of the pages half are random, a quarter text, and a quarter zero until rewritten. */
static void fill_page(void *p, uint64_t number, uint32_t generation)
{
	uint64_t seed = opt.seed ^ number << 24 ^ (uint64_t)generation << 56 ^ generation;
	if (opt.fields)
		fill_fields_page(p, number, seed, generation);
	else if (number % 2 == 0)
		fill_random(p, seed, PAGE);
	else if (number % 4 == 1 || generation > 0)
		fill_text(p, seed, PAGE);
	else
		memset(p, 0, PAGE);
}

/* ---- memory ---- */

struct memory {
	unsigned char *base, *hidden;
	uint32_t *generation;
	uint64_t pages, cursor, dirt;
};
enum { HIDDEN_PAGES = 64 };

static void *anonymous(size_t bytes, int flags)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | flags, -1, 0);
	if (p == MAP_FAILED)
		setup_failed("mmap");
	return p;
}

static void check_page(const void *p, enum kind kind, uint64_t number, uint32_t generation)
{
	static _Thread_local uint64_t want[PAGE / 8];
	fill_page(want, number, generation);
	if (memcmp(p, want, PAGE) == 0)
		return;
	size_t at = 0;
	while (((const unsigned char *)p)[at] == ((unsigned char *)want)[at])
		at++;
	FAIL(kind, "page %lu at %p, generation %u: byte %zu is %#x, want %#x", number, p, generation, at,
	     ((const unsigned char *)p)[at], ((unsigned char *)want)[at]);
}

static void memory_setup(struct memory *m)
{
	m->pages = (uint64_t)opt.mem_mib * (1 << 20) / PAGE;
	m->base = anonymous(m->pages * PAGE, MAP_PRIVATE);
	m->generation = calloc(m->pages, sizeof *m->generation);
	if (!m->generation)
		setup_failed("calloc");
	for (uint64_t i = 0; i < m->pages; i++)
		fill_page(m->base + i * PAGE, i, 0);
	m->hidden = anonymous(HIDDEN_PAGES * PAGE, MAP_PRIVATE);
	for (int i = 0; i < HIDDEN_PAGES; i++)
		fill_page(m->hidden + i * PAGE, i, 7);
	if (mprotect(m->hidden, HIDDEN_PAGES * PAGE, PROT_NONE))
		setup_failed("mprotect");
}

/* Pages that nobody may read between two checks. */
static void check_hidden(struct memory *m)
{
	if (mprotect(m->hidden, HIDDEN_PAGES * PAGE, PROT_READ))
		FAIL(HIDDEN, "mprotect: %m");
	for (int i = 0; i < HIDDEN_PAGES; i++)
		check_page(m->hidden + i * PAGE, HIDDEN, i, 7);
	if (mprotect(m->hidden, HIDDEN_PAGES * PAGE, PROT_NONE))
		FAIL(HIDDEN, "mprotect: %m");
	DONE(HIDDEN);
}

/* One slice of 10 ms: verify the next pages in turn, rewrite others at random. */
static void memory_slice(struct memory *m, double seconds)
{
	for (double n = opt.check_mib * 256.0 * seconds; n > 0; n--) {
		check_page(m->base + m->cursor * PAGE, MEM, m->cursor, m->generation[m->cursor]);
		DONE(MEM);
		if (++m->cursor == m->pages) {
			m->cursor = 0;
			check_hidden(m);
		}
	}
	for (double n = m->pages * opt.dirty / 100.0 * seconds; n > 0; n--) {
		uint64_t i = (m->dirt = mix(m->dirt)) % m->pages;
		check_page(m->base + i * PAGE, MEM, i, m->generation[i]);
		fill_page(m->base + i * PAGE, i, ++m->generation[i]);
	}
}

static void *memory_main(void *arg)
{
	struct memory *m = arg;
	int64_t last = now(CLOCK_MONOTONIC);
	for (;;) {
		pause_ns(TICK_NS);
		int64_t t = now(CLOCK_MONOTONIC), passed = t - last;
		last = t; /* a clock that jumped must not make a burst of work */
		memory_slice(m, (passed < 5 * TICK_NS ? passed : 5 * TICK_NS) / 1e9);
	}
	return NULL;
}

/* ---- computing ---- */

static atomic_long loops;

static void *spin_main(void *arg)
{
	for (uint64_t x = 1;; atomic_fetch_add_explicit(&loops, 1 + (x == 0), memory_order_relaxed))
		for (int i = 0; i < 1000; i++)
			x = mix(x);
	return arg;
}

static void print_loops(void)
{
	char line[64];
	put(STDOUT_FILENO, line, snprintf(line, sizeof line, "loops %ld %ld\n", atomic_load(&loops), now(CLOCK_REALTIME)));
}

/* ---- the process tree ---- */

enum { COW_PAGES = 256, WINDOW = 16 };
struct token { uint64_t seq, hops, check; };
struct relay { int in, out; };
static unsigned char *cow; /* written before the fork, in part rewritten after it */
static atomic_long alarms;

static void read_all(int fd, void *p, size_t n)
{
	for (size_t got = 0; got < n;) {
		ssize_t r = read(fd, (char *)p + got, n - got);
		if (r > 0)
			got += r;
		else if (r == 0 || errno != EINTR)
			FAIL(RING, "read from pipe gave %zd: %m", r);
	}
}

static void write_token(int fd, const struct token *t)
{
	ssize_t n;
	do
		n = write(fd, t, sizeof *t);
	while (n < 0 && errno == EINTR);
	if (n != sizeof *t)
		FAIL(RING, "write to pipe gave %zd: %m", n);
}

static void check_token(const struct token *t)
{
	if (t->check != mix(t->seq))
		FAIL(RING, "token %lu is damaged", t->seq);
}

static void *relay_main(void *arg)
{
	struct relay *r = arg;
	for (struct token t;; ) {
		read_all(r->in, &t, sizeof t);
		check_token(&t);
		t.hops++;
		write_token(r->out, &t);
	}
	return NULL;
}

/* Sends tokens round the ring, WINDOW of them under way, so the pipes are never empty. */
static void *ring_main(void *arg)
{
	struct relay *r = arg;
	for (uint64_t sent = 0, got = 0;; got++) {
		for (; sent < got + WINDOW; sent++)
			write_token(r->out, &(struct token){ sent, 0, mix(sent) });
		pause_ns(2000000);
		struct token t;
		read_all(r->in, &t, sizeof t);
		check_token(&t);
		if (t.seq != got || t.hops != (uint64_t)opt.tree)
			FAIL(RING, "token %lu after %lu hops, want %lu after %ld", t.seq, t.hops, got, opt.tree);
		DONE(RING);
	}
	return NULL;
}

static void check_cow(int child)
{
	for (int i = 0; i < COW_PAGES; i++)
		check_page(cow + i * PAGE, COW, i, i % 3 == 0 ? child + 1 : 0);
	DONE(COW);
}

static void check_shared(int child)
{
	static uint64_t mine;
	uint64_t sum = 0;
	pthread_mutex_lock(&shared->lock);
	shared->slot[child]++;
	shared->total++;
	for (int i = 0; i < opt.tree; i++)
		sum += shared->slot[i];
	uint64_t total = shared->total, slot = shared->slot[child];
	pthread_mutex_unlock(&shared->lock);
	if (slot != ++mine || sum != total)
		FAIL(SHARED, "slot %d is %lu, want %lu; sum %lu, total %lu", child, slot, mine, sum, total);
	DONE(SHARED);
}

static void check_zombie(pid_t pid)
{
	siginfo_t info = { 0 };
	if (waitid(P_PID, pid, &info, WEXITED | WNOHANG | WNOWAIT) || info.si_pid != pid ||
	    info.si_code != CLD_EXITED || info.si_status != 7)
		FAIL(ZOMBIE, "waitid %d: pid %d code %d status %d: %m", pid, info.si_pid, info.si_code, info.si_status);
	DONE(ZOMBIE);
}

static pid_t make_zombie(void)
{
	pid_t pid = fork();
	if (pid == 0)
		_exit(7);
	siginfo_t info;
	if (pid < 0 || waitid(P_PID, pid, &info, WEXITED | WNOWAIT))
		setup_failed("fork a zombie");
	return pid;
}

/* A child that lives for a moment only, and must find the same memory. */
static void check_fork(int child)
{
	pid_t pid = fork();
	if (pid < 0)
		FAIL(FORK, "fork: %m");
	if (pid == 0) {
		check_cow(child);
		_exit(0);
	}
	int status = 0;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			FAIL(FORK, "waitpid %d: %m", pid);
	if (status != 0)
		FAIL(FORK, "a child ended with status %#x", status);
	DONE(FORK);
}

static void queue_signals(int child)
{
	kill(getpid(), SIGUSR2);
	for (int i = 0; i < 3; i++)
		sigqueue(getpid(), SIGRTMIN + 3, (union sigval){ .sival_int = child * 10 + i });
}

/* The signals stay pending; now and then they are taken, looked at and queued again. */
static void check_signals(int child, uint64_t round)
{
	sigset_t set;
	sigpending(&set);
	if (!sigismember(&set, SIGUSR2) || !sigismember(&set, SIGRTMIN + 3))
		FAIL(SIGNALS, "child %d: a pending signal is gone", child);
	DONE(SIGNALS);
	if (round % 50)
		return;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	sigaddset(&set, SIGRTMIN + 3);
	struct timespec none = { 0 };
	siginfo_t info;
	for (int i = -1; i < 3; i++) {
		int got = sigtimedwait(&set, &info, &none), want = i < 0 ? SIGUSR2 : SIGRTMIN + 3;
		if (got != want || (i >= 0 && info.si_value.sival_int != child * 10 + i))
			FAIL(SIGNALS, "child %d: pending signal %d is %d with value %d", child, i, got, info.si_value.sival_int);
	}
	if (sigtimedwait(&set, &info, &none) >= 0)
		FAIL(SIGNALS, "child %d: signal %d came twice", child, info.si_signo);
	queue_signals(child);
}

static void on_alarm(int sig) { (void)sig; atomic_fetch_add(&alarms, 1); }

static int start_timers(void)
{
	struct sigaction act = { .sa_handler = on_alarm, .sa_flags = SA_RESTART };
	sigaction(SIGALRM, &act, NULL);
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGALRM);
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
	struct itimerval every = { { 0, 50000 }, { 0, 50000 } };
	struct itimerspec every_fd = { { 0, 30000000 }, { 0, 30000000 } };
	int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	if (fd < 0 || timerfd_settime(fd, 0, &every_fd, NULL) || setitimer(ITIMER_REAL, &every, NULL))
		setup_failed("timers");
	return fd;
}

/* In 100 rounds of 20 ms each timer has to have fired. */
static void check_timers(int fd, uint64_t round)
{
	static uint64_t expired;
	static long seen;
	uint64_t n;
	if (read(fd, &n, sizeof n) == sizeof n)
		expired += n;
	else if (errno != EAGAIN && errno != EINTR)
		FAIL(TIMERS, "timerfd: %m");
	if (round % 100)
		return;
	long rings = atomic_load(&alarms);
	if (expired == 0 || rings == seen)
		FAIL(TIMERS, "no expiry in 100 rounds: timerfd %lu, interval timer %ld", expired, rings - seen);
	seen = rings;
	expired = 0;
	DONE(TIMERS);
}

static void check_sleep(void)
{
	int64_t until = now(CLOCK_MONOTONIC) + 2 * TICK_NS;
	struct timespec ts = { until / 1000000000, until % 1000000000 };
	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL) == EINTR)
		;
	if (now(CLOCK_MONOTONIC) < until)
		FAIL(SLEEP, "woke at %ld, before %ld", now(CLOCK_MONOTONIC), until);
	DONE(SLEEP);
}

static void start_thread(void *(*run)(void *), void *arg)
{
	pthread_t thread;
	sigset_t all, old;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	if ((errno = pthread_create(&thread, NULL, run, arg)))
		setup_failed("pthread_create");
	pthread_sigmask(SIG_SETMASK, &old, NULL);
}

static void follow_parent(void)
{
	if (getppid() != main_pid)
		_exit(0); /* killed without a chance to end us */
}

__attribute__((noreturn)) static void child_main(int child, struct relay *relay)
{
	for (int i = 0; i < COW_PAGES; i += 3)
		fill_page(cow + i * PAGE, i, child + 1);
	start_thread(relay_main, relay);
	queue_signals(child);
	int timer = start_timers();
	pid_t zombie = child == 0 ? make_zombie() : 0;
	for (uint64_t round = 1;; round++) {
		follow_parent();
		check_cow(child);
		check_shared(child);
		check_signals(child, round);
		check_sleep();
		check_timers(timer, round);
		if (zombie)
			check_zombie(zombie);
		if (child == 0 && round % 25 == 0)
			check_fork(child);
	}
}

static void block(int sig)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, sig);
	sigprocmask(SIG_BLOCK, &set, NULL);
}

static pid_t spawn(void)
{
	pid_t pid = fork();
	if (pid < 0)
		setup_failed("fork");
	if (pid > 0)
		children[n_children++] = pid;
	else
		n_children = 0;
	return pid;
}

/* main ─► child 0 ─► child 1 ─► … ─► main */
static void tree_setup(void)
{
	static struct relay ends;
	cow = anonymous(COW_PAGES * PAGE, MAP_PRIVATE);
	for (int i = 0; i < COW_PAGES; i++)
		fill_page(cow + i * PAGE, i, 0);
	int first[2], next[2], in;
	if (pipe(first))
		setup_failed("pipe");
	in = first[0];
	for (int i = 0; i < opt.tree; i++) {
		if (pipe(next))
			setup_failed("pipe");
		if (spawn() == 0) {
			block(SIGUSR2);
			block(SIGRTMIN + 3);
			close(first[1]);
			close(next[0]);
			struct relay relay = { in, next[1] };
			child_main(i, &relay);
		}
		close(in);
		close(next[1]);
		in = next[0];
	}
	ends = (struct relay){ in, first[1] };
	start_thread(ring_main, &ends);
}

/* ---- System V IPC ---- */

enum { SHM_PAGES = 256, SEMS = 3, MESSAGES = 3 };
struct message { long type; uint64_t body[8]; };
static unsigned char *shm;

static struct message message(int i)
{
	struct message m = { .type = i % 2 + 1 };
	fill_random(m.body, opt.seed + i, sizeof m.body);
	return m;
}

static void send_messages(void)
{
	for (int i = 0; i < MESSAGES; i++) {
		struct message m = message(i);
		if (msgsnd(msg_id, &m, sizeof m.body, IPC_NOWAIT))
			FAIL(MSG, "msgsnd: %m");
	}
}

static void sysv_setup(void)
{
	int flags = IPC_CREAT | IPC_EXCL | 0600;
	if ((shm_id = shmget(opt.key, SHM_PAGES * PAGE, flags)) < 0)
		setup_failed("shmget");
	if ((sem_id = semget(opt.key, SEMS, flags)) < 0)
		setup_failed("semget");
	if ((msg_id = msgget(opt.key, flags)) < 0)
		setup_failed("msgget");
	if ((shm = shmat(shm_id, NULL, 0)) == (void *)-1)
		setup_failed("shmat");
	for (int i = 0; i < SHM_PAGES; i++)
		fill_page(shm + i * PAGE, i, 3);
	for (int i = 0; i < SEMS; i++)
		if (semctl(sem_id, i, SETVAL, 10 + i))
			setup_failed("semctl");
	send_messages();
	char line[128];
	put(STDOUT_FILENO, line, snprintf(line, sizeof line, "sysv key=%d shm=%d sem=%d msg=%d\n", opt.key, shm_id, sem_id, msg_id));
}

static void check_sysv(void)
{
	int a = shmget(opt.key, 0, 0), b = semget(opt.key, 0, 0), c = msgget(opt.key, 0);
	if (a != shm_id || b != sem_id || c != msg_id)
		FAIL(SHM, "ids shm %d sem %d msg %d, want %d %d %d: %m", a, b, c, shm_id, sem_id, msg_id);
	for (int i = 0; i < SHM_PAGES; i++)
		check_page(shm + i * PAGE, SHM, i, 3);
	DONE(SHM);
	for (int i = 0; i < SEMS; i++)
		if (semctl(sem_id, i, GETVAL) != 10 + i)
			FAIL(SEM, "semaphore %d is %d, want %d: %m", i, semctl(sem_id, i, GETVAL), 10 + i);
	DONE(SEM);
	for (int i = 0; i < MESSAGES; i++) {
		struct message got, want = message(i);
		if (msgrcv(msg_id, &got, sizeof got.body, 0, IPC_NOWAIT) != sizeof got.body || memcmp(&got, &want, sizeof got))
			FAIL(MSG, "message %d is missing or differs: %m", i);
	}
	send_messages();
	DONE(MSG);
}

/* ---- POSIX message queue ---- */

static void send_mq(void)
{
	static const unsigned priority[] = { 1, 5, 3 };
	for (int i = 0; i < 3; i++) {
		uint64_t body[8];
		fill_random(body, opt.seed + priority[i], sizeof body);
		if (mq_send(mq, (char *)body, sizeof body, priority[i]))
			FAIL(MQUEUE, "mq_send: %m");
	}
}

static void mqueue_setup(void)
{
	struct mq_attr attr = { .mq_maxmsg = 8, .mq_msgsize = 64 };
	mq = mq_open(opt.mq_name, O_CREAT | O_EXCL | O_RDWR | O_NONBLOCK, 0600, &attr);
	if (mq == (mqd_t)-1)
		setup_failed("mq_open");
	send_mq();
}

static void check_mqueue(void)
{
	static const unsigned order[] = { 5, 3, 1 };
	for (int i = 0; i < 3; i++) {
		uint64_t got[8], want[8];
		unsigned priority = 0;
		fill_random(want, opt.seed + order[i], sizeof want);
		ssize_t n = mq_receive(mq, (char *)got, sizeof got, &priority);
		if (n != sizeof got || priority != order[i] || memcmp(got, want, sizeof got))
			FAIL(MQUEUE, "message %d has %zd bytes, priority %u, want %u: %m", i, n, priority, order[i]);
	}
	send_mq();
	DONE(MQUEUE);
}

/* ---- files: locks, and one without a name ---- */

enum { DELETED_PAGES = 64 };
static int deleted_fd = -1, flock_fd = -1, posix_fd = -1;

static int open_in_dir(const char *name, int flags)
{
	char path[4096];
	snprintf(path, sizeof path, "%s/%s", opt.dir, name);
	return open(path, flags | O_CLOEXEC, 0600);
}

static void check_locks(void)
{
	int fd = open_in_dir("oracle.flock", O_RDWR);
	if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK)
		FAIL(LOCKS, "flock is not held: %m");
	close(fd);
	fd = open_in_dir("oracle.posix", O_RDWR);
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 10, .l_len = 10 };
	if (fd < 0 || fcntl(fd, F_GETLK, &lock) || lock.l_type != F_WRLCK || lock.l_pid != main_pid)
		FAIL(LOCKS, "fcntl lock is not held: type %d, holder %d, want %d: %m", lock.l_type, lock.l_pid, main_pid);
	close(fd);
	DONE(LOCKS);
}

/* Another process holds the view from outside. */
static void locks_setup(void)
{
	flock_fd = open_in_dir("oracle.flock", O_CREAT | O_RDWR);
	posix_fd = open_in_dir("oracle.posix", O_CREAT | O_RDWR);
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 100 };
	if (flock_fd < 0 || posix_fd < 0 || flock(flock_fd, LOCK_EX | LOCK_NB) || fcntl(posix_fd, F_SETLK, &lock))
		setup_failed("locks");
	if (spawn() > 0)
		return;
	close(flock_fd);
	close(posix_fd);
	for (;; pause_ns(10 * TICK_NS)) {
		follow_parent();
		check_locks();
	}
}

static void deleted_setup(void)
{
	char page[PAGE], path[4096];
	deleted_fd = open_in_dir("oracle.deleted", O_CREAT | O_TRUNC | O_RDWR);
	if (deleted_fd < 0)
		setup_failed("oracle.deleted");
	for (int i = 0; i < DELETED_PAGES; i++) {
		fill_page(page, i, 5);
		if (write(deleted_fd, page, PAGE) != PAGE)
			setup_failed("oracle.deleted");
	}
	snprintf(path, sizeof path, "%s/oracle.deleted", opt.dir);
	if (unlink(path))
		setup_failed("unlink");
}

static void check_deleted(void)
{
	char page[PAGE] __attribute__((aligned(8)));
	struct stat st;
	off_t at = lseek(deleted_fd, 0, SEEK_CUR);
	if (fstat(deleted_fd, &st) || st.st_nlink != 0 || st.st_size != DELETED_PAGES * PAGE || at != st.st_size)
		FAIL(DELETED, "links %ld, size %ld, position %ld: %m", (long)st.st_nlink, (long)st.st_size, (long)at);
	for (int i = 0; i < DELETED_PAGES; i++) {
		if (pread(deleted_fd, page, PAGE, i * PAGE) != PAGE)
			FAIL(DELETED, "pread: %m");
		check_page(page, DELETED, i, 5);
	}
	DONE(DELETED);
}

/* ---- a Unix socket with a name, by which the oracle calls itself ---- */

static int socket_fd = -1;

static struct sockaddr_un socket_name(void)
{
	struct sockaddr_un name = { .sun_family = AF_UNIX };
	if (snprintf(name.sun_path, sizeof name.sun_path, "%s/oracle.socket", opt.dir) >= (int)sizeof name.sun_path)
		setup_failed("name of the socket");
	return name;
}

static void *socket_main(void *arg)
{
	for (uint64_t word;;) {
		int fd = accept4(socket_fd, NULL, NULL, SOCK_CLOEXEC);
		if (fd < 0 || read(fd, &word, sizeof word) != sizeof word || write(fd, &word, sizeof word) != sizeof word)
			FAIL(SOCKET, "answer: %m");
		close(fd);
	}
	return arg;
}

static void socket_setup(void)
{
	struct sockaddr_un name = socket_name();
	unlink(name.sun_path);
	socket_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (socket_fd < 0 || bind(socket_fd, (struct sockaddr *)&name, sizeof name) || listen(socket_fd, 8))
		setup_failed(name.sun_path);
	start_thread(socket_main, NULL);
}

static void check_socket(void)
{
	static uint64_t sent;
	uint64_t got = 0;
	struct sockaddr_un name = socket_name();
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&name, sizeof name))
		FAIL(SOCKET, "call %s: %m", name.sun_path);
	sent = mix(sent + 1);
	if (write(fd, &sent, sizeof sent) != sizeof sent || read(fd, &got, sizeof got) != sizeof got || got != sent)
		FAIL(SOCKET, "sent %#lx, got %#lx: %m", sent, got);
	close(fd);
	DONE(SOCKET);
}

static void *files_and_ipc_main(void *arg)
{
	for (;; pause_ns(5 * TICK_NS)) {
		if (opt.sysv)
			check_sysv();
		if (opt.mqueue)
			check_mqueue();
		if (opt.deleted)
			check_deleted();
		if (opt.socket)
			check_socket();
	}
	return arg;
}

/* ---- memory shared in every way there is, written by several processes ---- */

enum { AREAS = 5, WRITERS = 3, SLICES = 100 };
struct area {
	enum kind kind;
	unsigned char *base;
	uint32_t *generation; /* of the pages that this process writes */
};
static struct area areas[AREAS] = { [0].kind = DEVSHM, [1].kind = SEGMENT, [2].kind = MEMFD, [3].kind = ANON, [4].kind = UNLINKED };
static uint64_t area_pages;
static int asks[WRITERS][2], answers[WRITERS][2];

static void *map_shared(int fd)
{
	void *p = mmap(NULL, area_pages * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | (fd < 0 ? MAP_ANONYMOUS : 0), fd, 0);
	if (p == MAP_FAILED)
		setup_failed("mmap of shared memory");
	return p;
}

/* The descriptor stays open, as it does in most programs. */
static int sized(int fd)
{
	if (fd < 0 || ftruncate(fd, area_pages * PAGE))
		setup_failed("file for shared memory");
	return fd;
}

static void map_areas(void)
{
	areas[0].base = map_shared(sized(shm_open("/oracle-shared", O_CREAT | O_EXCL | O_RDWR, 0600)));
	segment_id = shmget(IPC_PRIVATE, area_pages * PAGE, 0600);
	areas[1].base = segment_id < 0 ? (void *)-1 : shmat(segment_id, NULL, 0);
	if (areas[1].base == (void *)-1)
		setup_failed("shmat");
	areas[2].base = map_shared(sized(memfd_create("oracle", MFD_CLOEXEC)));
	areas[3].base = map_shared(-1);
	areas[4].base = map_shared(sized(shm_open("/oracle-unlinked", O_CREAT | O_EXCL | O_RDWR, 0600)));
	if (shm_unlink("/oracle-unlinked"))
		setup_failed("shm_unlink");
}

/* Page 0 is for talking; the others belong to one writer each. */
static uint64_t own_page(uint64_t random, int writer)
{
	return 1 + writer + random % ((area_pages - 1) / WRITERS) * WRITERS;
}

static void rewrite(struct area *a, uint64_t page)
{
	check_page(a->base + page * PAGE, a->kind, page, a->generation[page]);
	fill_page(a->base + page * PAGE, page, ++a->generation[page]);
}

static void write_areas(int writer)
{
	static uint64_t random, cursor;
	double due = area_pages * opt.dirty / 100.0 / SLICES / WRITERS;
	for (int k = 0; k < AREAS; k++) {
		struct area *a = &areas[k];
		for (double n = due; n > 0; n--)
			rewrite(a, own_page(random = mix(random), writer));
		for (int n = 0; n < 8; n++) {
			uint64_t page = own_page(++cursor, writer);
			check_page(a->base + page * PAGE, a->kind, page, a->generation[page]);
		}
		DONE(a->kind);
	}
}

static uint64_t *word(int area, int writer) { return (uint64_t *)areas[area].base + 1 + writer; }

/* What one process writes the other reads, although nothing of it goes through the pipe. */
static void *answer_main(void *arg)
{
	int writer = *(int *)arg;
	for (struct token t;;) {
		read_all(asks[writer][0], &t, sizeof t);
		check_token(&t);
		for (int k = 0; k < AREAS; k++) {
			if (*word(k, writer) != mix(t.seq + k))
				FAIL(areas[k].kind, "writer %d does not see what was written", writer);
			*word(k, writer) = ~mix(t.seq + k);
		}
		write_token(answers[writer][1], &t);
	}
	return NULL;
}

static void ask(int writer)
{
	static uint64_t seq;
	struct token t = { ++seq, 0, mix(seq) };
	for (int k = 0; k < AREAS; k++)
		*word(k, writer) = mix(seq + k);
	write_token(asks[writer][1], &t);
	read_all(answers[writer][0], &t, sizeof t);
	for (int k = 0; k < AREAS; k++)
		if (*word(k, writer) != ~mix(seq + k))
			FAIL(areas[k].kind, "what writer %d has written is not seen", writer);
}

static void *ask_main(void *arg)
{
	for (;; pause_ns(TICK_NS)) {
		write_areas(0);
		for (int writer = 1; writer < WRITERS; writer++)
			ask(writer);
	}
	return arg;
}

static void areas_setup(void)
{
	static int writer;
	area_pages = (uint64_t)opt.shared_mib * (1 << 20) / PAGE;
	map_areas();
	for (int k = 0; k < AREAS; k++) {
		areas[k].generation = calloc(area_pages, sizeof *areas[k].generation);
		for (uint64_t i = 1; i < area_pages; i++)
			fill_page(areas[k].base + i * PAGE, i, 0);
	}
	for (writer = 1; writer < WRITERS; writer++) {
		if (pipe(asks[writer]) || pipe(answers[writer]))
			setup_failed("pipe");
		if (spawn() > 0)
			continue;
		start_thread(answer_main, &writer);
		for (;; pause_ns(TICK_NS)) {
			follow_parent();
			write_areas(writer);
		}
	}
	start_thread(ask_main, NULL);
}

/* ---- TCP ---- */

enum { CLIENTS = 64 };

static void echo(struct pollfd *p)
{
	char data[16384];
	ssize_t n = read(p->fd, data, sizeof data), done = 0;
	while (done < n) {
		ssize_t w = send(p->fd, data + done, n - done, MSG_NOSIGNAL);
		if (w <= 0 && errno != EINTR)
			break;
		done += w > 0 ? w : 0;
	}
	if (n > 0 && done == n) {
		DONE(TCP);
		return;
	}
	if (n < 0 && errno == EINTR)
		return;
	close(p->fd);
	p->fd = -1;
}

static void *tcp_main(void *arg)
{
	struct pollfd fds[CLIENTS + 1];
	for (int i = 0; i <= CLIENTS; i++)
		fds[i] = (struct pollfd){ .fd = i ? -1 : *(int *)arg, .events = POLLIN };
	for (;;) {
		if (poll(fds, CLIENTS + 1, -1) < 0 && errno != EINTR)
			FAIL(TCP, "poll: %m");
		for (int i = 1; i <= CLIENTS; i++)
			if (fds[i].fd >= 0 && fds[i].revents)
				echo(&fds[i]);
		if (!fds[0].revents)
			continue;
		int client = accept(fds[0].fd, NULL, NULL), i = 1;
		while (i <= CLIENTS && fds[i].fd >= 0)
			i++;
		if (client >= 0 && i > CLIENTS)
			close(client);
		else if (client >= 0)
			fds[i] = (struct pollfd){ .fd = client, .events = POLLIN };
	}
	return NULL;
}

static void tcp_setup(void)
{
	static int fd;
	int on = 1;
	struct sockaddr_in any = { .sin_family = AF_INET, .sin_port = htons(opt.tcp_port) };
	socklen_t len = sizeof any;
	fd = socket(AF_INET, SOCK_STREAM, 0);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) ||
	    bind(fd, (struct sockaddr *)&any, sizeof any) || listen(fd, 16) ||
	    getsockname(fd, (struct sockaddr *)&any, &len))
		setup_failed("tcp-listen");
	char line[64];
	put(STDOUT_FILENO, line, snprintf(line, sizeof line, "tcp port=%d\n", ntohs(any.sin_port)));
	start_thread(tcp_main, &fd);
}

/* ---- the main thread ---- */

static void on_signal(int sig)
{
	if (sig == SIGTERM)
		want_end = 1;
	else
		want_state = 1;
}

static void print_state(void)
{
	char line[1024];
	int n = snprintf(line, sizeof line, "ok");
	for (int i = 0; i < KINDS; i++)
		n += snprintf(line + n, sizeof line - n, " %s=%ld", kind_names[i], atomic_load(&shared->done[i]));
	n += snprintf(line + n, sizeof line - n, " failures=%d\n", atomic_load(&shared->failures));
	put(STDOUT_FILENO, line, n);
}

static void tick(void)
{
	static uint64_t counter, inverse = ~0ULL, in_shared;
	static int64_t last_mono, last_boot;
	if (counter != ~inverse || counter != in_shared)
		fail_with(EXIT_COUNT, "count", "counter %lu, its inverse %lu, its copy %lu", counter, ~inverse, in_shared);
	int64_t mono = now(CLOCK_MONOTONIC), boot = now(CLOCK_BOOTTIME);
	if (mono < last_mono || boot < last_boot)
		fail_with(EXIT_CLOCK, "clock", "monotonic %ld after %ld, boottime %ld after %ld", mono, last_mono, boot, last_boot);
	last_mono = mono;
	last_boot = boot;
	if (opt.count) {
		char host[65] = "", line[256];
		gethostname(host, sizeof host - 1);
		put(STDOUT_FILENO, line, snprintf(line, sizeof line, "tick %lu %ld %ld %ld %d %d %s\n", counter, mono, boot,
						  now(CLOCK_REALTIME), getpid(), getppid(), host));
	}
	counter++;
	inverse = ~counter;
	in_shared = atomic_fetch_add(&shared->done[COUNT], 1) + 1;
}

static void check_children(void)
{
	for (int i = 0; i < n_children; i++) {
		int status;
		pid_t pid = waitpid(children[i], &status, WNOHANG);
		if (pid == 0)
			continue;
		if (atomic_load(&shared->failures) == 0)
			dprintf(STDERR_FILENO, "ORACLE FAIL tree child %d is gone: waitpid gave %d, status %#x\n", children[i], pid, status);
		clean_up();
		_exit(EXIT_CHECK);
	}
}

static void handle_signals(void)
{
	struct sigaction act = { .sa_handler = on_signal };
	sigaction(SIGTERM, &act, NULL);
	sigaction(SIGUSR1, &act, NULL);
	signal(SIGPIPE, SIG_IGN); /* a failed write is a finding */
}

static void set_up(void)
{
	static struct memory memory;
	if (opt.locks)
		locks_setup();
	if (opt.tree)
		tree_setup();
	if (opt.shared_mib)
		areas_setup();
	if (opt.sysv)
		sysv_setup();
	if (opt.mqueue)
		mqueue_setup();
	if (opt.deleted)
		deleted_setup();
	if (opt.socket)
		socket_setup();
	if (opt.sysv || opt.mqueue || opt.deleted || opt.socket)
		start_thread(files_and_ipc_main, NULL);
	if (opt.tcp_port >= 0)
		tcp_setup();
	if (opt.mem_mib) {
		memory_setup(&memory);
		start_thread(memory_main, &memory);
	}
	if (opt.spin)
		start_thread(spin_main, NULL);
}

static void make_shared(void)
{
	pthread_mutexattr_t attr;
	main_pid = getpid();
	shared = anonymous(sizeof *shared, MAP_SHARED);
	pthread_mutexattr_init(&attr);
	pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
	pthread_mutex_init(&shared->lock, &attr);
}

static long number(const char *name, const char *text, long least, long most)
{
	char *end;
	errno = 0;
	long n = strtol(text, &end, 0);
	if (errno || *end || end == text || n < least || n > most) {
		dprintf(STDERR_FILENO, "oracle: --%s %s: want a number from %ld to %ld\n", name, text, least, most);
		exit(EXIT_SETUP);
	}
	return n;
}

static void parse(int argc, char **argv)
{
	enum { MEM_MIB = 1, CHECK, DIRTY, TREE, PORT, SECONDS, CODE, SEED, KEY, DIR, MQNAME, AREA };
	static const struct option options[] = {
		{ "mem", 1, 0, MEM_MIB }, { "check", 1, 0, CHECK }, { "dirty", 1, 0, DIRTY }, { "tree", 1, 0, TREE },
		{ "tcp-listen", 1, 0, PORT }, { "seconds", 1, 0, SECONDS }, { "exit", 1, 0, CODE }, { "seed", 1, 0, SEED },
		{ "key", 1, 0, KEY }, { "dir", 1, 0, DIR }, { "mq-name", 1, 0, MQNAME }, { "count", 0, &opt.count, 1 },
		{ "sysv", 0, &opt.sysv, 1 }, { "mqueue", 0, &opt.mqueue, 1 }, { "locks", 0, &opt.locks, 1 },
		{ "deleted", 0, &opt.deleted, 1 }, { "socket", 0, &opt.socket, 1 }, { "fields", 0, &opt.fields, 1 }, { "spin", 0, &opt.spin, 1 }, { "shared", 1, 0, AREA }, { 0 }
	};
	int which, c;
	opt.tcp_port = -1;
	while ((c = getopt_long(argc, argv, "", options, &which)) != -1) {
		const char *name = options[which].name;
		switch (c) {
		case 0: break;
		case MEM_MIB: opt.mem_mib = number(name, optarg, 1, 1 << 24); break;
		case CHECK: opt.check_mib = number(name, optarg, 0, 1 << 20); break;
		case DIRTY: opt.dirty = number(name, optarg, 0, 10000); break;
		case TREE: opt.tree = number(name, optarg, 1, MAX_CHILDREN); break;
		case PORT: opt.tcp_port = number(name, optarg, 0, 65535); break;
		case SECONDS: opt.seconds = number(name, optarg, 0, 1 << 30); break;
		case CODE: opt.exit_code = number(name, optarg, 0, 255); opt.seconds += opt.seconds < 0; break;
		case SEED: opt.seed = number(name, optarg, 0, 1L << 62); break;
		case KEY: opt.key = number(name, optarg, 1, 0x7fffffff); break;
		case DIR: opt.dir = optarg; break;
		case MQNAME: opt.mq_name = optarg; break;
		case AREA: opt.shared_mib = number(name, optarg, 1, 1 << 20); break;
		default: exit(EXIT_SETUP);
		}
	}
	if (optind < argc) {
		dprintf(STDERR_FILENO, "oracle: %s is no flag\n", argv[optind]);
		exit(EXIT_SETUP);
	}
}

int main(int argc, char **argv)
{
	parse(argc, argv);
	make_shared();
	handle_signals();
	set_up();
	put(STDOUT_FILENO, "ready\n", 6);
	for (int64_t start = now(CLOCK_MONOTONIC);; pause_ns(TICK_NS)) {
		tick();
		if (opt.spin)
			print_loops();
		check_children();
		if (want_state) {
			want_state = 0;
			print_state();
		}
		if (want_end)
			opt.exit_code = 0;
		else if (opt.seconds < 0 || now(CLOCK_MONOTONIC) - start < opt.seconds * 1000000000LL)
			continue;
		atomic_store(&shared->ending, 1);
		put(STDOUT_FILENO, "bye\n", 4);
		clean_up();
		_exit(opt.exit_code);
	}
}
