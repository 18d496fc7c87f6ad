//go:build ignore

/*
 * The breaker: jobs whose memory is hard to follow, each of which knows what it wrote
 * and says so when it reads something else. doc.go lists roles, output and exit codes.
 *
 *   main thread   prints "ok N" when every worker has looked at all of its memory N times
 *   workers       the role: change pages, check pages, sleep, over and over
 *   children      of the role forks; their exit status is what they found
 *
 * A page is written from its note (a stamp, and one word that counts), and checked by it,
 * also before it is overwritten. A page has one owner, so nothing is locked.
 * Between the steps of what takes several system calls there are sleeps, so that the job
 * is often stopped there.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif
#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif
#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif

enum { PAGE = 4096, WORDS = PAGE / 8, MIB = 256, BIG = 2 * MIB, THREADS = 200 }; /* sizes in pages */
enum { EXIT_SETUP = 2, EXIT_BAD = 33 };
static const uint64_t STEP = 0x9e3779b97f4a7c15;

/* What a page holds: zeros if stamp is 0; then, if count is not 0, one word that counts. */
struct note {
	uint64_t stamp, count;
	uint32_t at, freed; /* freed: zeros are right, too (MADV_FREE) */
};

struct area {
	unsigned char *base;
	struct note *notes;
	long pages;
};

struct worker {
	pthread_t thread;
	uint64_t random, stamps, salt, ball, counted;
	long id, area, cursor;
	atomic_long passes;
	struct area stack; /* two pages of its own stack */
};

struct role {
	const char *name;
	long workers, nap_us;
	void (*setup)(void);
	void (*step)(struct worker *);
	int apart; /* worker i has area i for itself; else each has pages of every area */
};

static const struct role *role;
static struct worker workers[THREADS];
static struct area areas[3];
static long n_areas;
static atomic_int ending;
static volatile sig_atomic_t want_end;

/* ---- output and failure ---- */

__attribute__((format(printf, 2, 3))) static void say(int fd, const char *format, ...)
{
	char text[512];
	va_list args;
	va_start(args, format);
	int len = vsnprintf(text, sizeof text, format, args);
	va_end(args);
	ssize_t n;
	do
		n = write(fd, text, len);
	while (n < 0 && errno == EINTR);
}

#define BAD(format, ...) (say(1, "BAD %s: " format "\n", role->name, ##__VA_ARGS__), _exit(EXIT_BAD))

static void *mapped(void *p, const char *what)
{
	if (p == MAP_FAILED)
		BAD("%s: %s", what, strerror(errno));
	return p;
}

static void done(int result, const char *what)
{
	if (result)
		BAD("%s: %s", what, strerror(errno));
}

static void setup_failed(const char *what)
{
	say(2, "breaker: cannot set up: %s: %s\n", what, strerror(errno));
	exit(EXIT_SETUP);
}

/* ---- pages ---- */

static uint64_t mix(uint64_t x)
{
	x += STEP;
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
	x = (x ^ x >> 27) * 0x94d049bb133111eb;
	return x ^ x >> 31;
}

static uint64_t below(struct worker *w, uint64_t n) { return (w->random = mix(w->random)) % n; }

static void nap(long us)
{
	struct timespec ts = { us / 1000000, us % 1000000 * 1000 };
	nanosleep(&ts, NULL); /* a signal may cut it short */
}

static uint64_t *page(struct area *a, long i) { return (uint64_t *)(a->base + i * PAGE); }

/* Word 0 is the stamp itself, so that a wrong page tells what it was. */
static void content(uint64_t *to, const struct note *n)
{
	if (n->stamp == 0)
		memset(to, 0, PAGE);
	else
		for (uint64_t k = 0, x = mix(n->stamp); k < WORDS; k++)
			to[k] = k ? x + k * STEP : n->stamp;
	if (n->count)
		to[n->at] = n->count;
}

static int is_zero(const uint64_t *p) { return p[0] == 0 && memcmp(p, p + 1, PAGE - 8) == 0; }

__attribute__((noreturn)) static void wrong(struct area *a, long i, const uint64_t *have, const uint64_t *want)
{
	int first = -1, last = 0, differ = 0;
	for (int k = 0; k < WORDS; k++)
		if (have[k] != want[k]) {
			first = first < 0 ? k : first;
			last = k;
			differ++;
		}
	struct note *n = &a->notes[i];
	BAD("page %ld of %ld at %p: word %d is %#lx, want %#lx; %d words to %d differ; it begins with %#lx%s, want stamp %#lx count %lu at %u; pid %d",
	    i, a->pages, (void *)page(a, i), first, have[first], want[first], differ, last, have[0],
	    is_zero(have) ? " and is zero" : "", n->stamp, n->count, n->at, getpid());
	__builtin_unreachable();
}

static void check(struct area *a, long i)
{
	uint64_t have[WORDS], want[WORDS];
	memcpy(have, page(a, i), PAGE);
	if (a->notes[i].freed && is_zero(have))
		a->notes[i] = (struct note){ 0 };
	content(want, &a->notes[i]);
	if (memcmp(have, want, PAGE))
		wrong(a, i, have, want);
}

static void check_range(struct area *a, long i, long n)
{
	for (; n > 0; i++, n--)
		check(a, i);
}

/* Half of the time, before the pages are given up or moved: what is checked has arrived. */
static void check_maybe(struct worker *w, struct area *a, long i, long n)
{
	if (below(w, 2))
		check_range(a, i, n);
}

static void forget(struct area *a, long i, long n) { memset(a->notes + i, 0, n * sizeof *a->notes); }

static void fill(struct worker *w, struct area *a, long i)
{
	a->notes[i] = (struct note){ .stamp = ++w->stamps << 16 | w->salt };
	content(page(a, i), &a->notes[i]);
}

/* One word of the page; which one stays until the page is written as a whole. */
static void poke(struct worker *w, struct area *a, long i)
{
	struct note *n = &a->notes[i];
	if (n->freed) /* it may be gone by now */
		return fill(w, a, i);
	if (n->count == 0)
		n->at = below(w, WORDS);
	page(a, i)[n->at] = ++n->count;
}

static void copy_page(struct area *a, long to, long from)
{
	check(a, from);
	if (a->notes[from].freed)
		return;
	a->notes[to] = a->notes[from];
	memcpy(page(a, to), page(a, from), PAGE);
}

/* A random change of page i; other is a page of the same owner. */
static void change(struct worker *w, struct area *a, long i, long other)
{
	check(a, i);
	switch (below(w, 8)) {
	case 0:
		forget(a, i, 1);
		memset(page(a, i), 0, PAGE);
		break;
	case 1:
		copy_page(a, i, other);
		break;
	case 2 ... 4:
		fill(w, a, i);
		break;
	default:
		poke(w, a, i);
	}
	check(a, i);
}

/* ---- areas ---- */

static void *reserve(long pages)
{
	unsigned char *p = mapped(mmap(NULL, (pages + BIG) * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), "reserve");
	return (void *)(((uintptr_t)p + BIG * PAGE - 1) & -(uintptr_t)(BIG * PAGE));
}

static void map_at(void *p, long pages, int prot, int flags)
{
	void *got = mapped(mmap(p, pages * PAGE, prot, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0), "mmap");
	if (got != p)
		BAD("mmap at %p gave %p", p, got);
}

static struct area *make_area(long pages, long room)
{
	struct area *a = &areas[n_areas++];
	a->base = reserve(room);
	a->pages = pages;
	map_at(a->base, pages, PROT_READ | PROT_WRITE, MAP_FIXED);
	if (!(a->notes = calloc(room, sizeof *a->notes)))
		setup_failed("calloc");
	return a;
}

static void fill_area(struct area *a)
{
	for (long i = 0; i < a->pages; i++)
		fill(&workers[0], a, i);
}

/* Pages of an area belong to the workers in turn. */
static long own_page(struct worker *w, struct area *a)
{
	return below(w, a->pages / role->workers) * role->workers + w->id;
}

/* To the first of the worker's pages in an area. */
static void look_at(struct worker *w, long area)
{
	w->area = role->apart ? w->id : area % n_areas;
	w->cursor = role->apart ? 0 : w->id;
}

/* Checks the next of the worker's pages, counts when it has been through all. */
static void scan(struct worker *w, long pages)
{
	for (; pages > 0; pages--, w->cursor += role->apart ? 1 : role->workers) {
		if (w->cursor >= areas[w->area].pages) {
			if (role->apart || w->area == n_areas - 1)
				atomic_fetch_add(&w->passes, 1);
			look_at(w, w->area + 1);
		}
		check(&areas[w->area], w->cursor);
	}
}

/* ---- random, userfaultfd ---- */

static void random_setup(void) { fill_area(make_area(48 * MIB, 48 * MIB)); }

/* Waits for ever with the end of its stack at the start of a page. */
__attribute__((noreturn)) static void *wait_aligned(void *unused)
{
	(void)unused;
	sigset_t all;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, NULL);
	for (;;)
		__asm__ volatile("mov %%rsp, %%rbx\n and $-4096, %%rsp\n mov %0, %%eax\n syscall\n mov %%rbx, %%rsp"
			: : "i"(SYS_pause) : "rax", "rbx", "rcx", "r11", "memory");
}

static void aligned_setup(void)
{
	pthread_t thread;
	random_setup();
	if ((errno = pthread_create(&thread, NULL, wait_aligned, NULL)))
		setup_failed("pthread_create");
}

static void random_step(struct worker *w)
{
	for (int i = 0; i < 16; i++)
		change(w, &areas[0], own_page(w, &areas[0]), own_page(w, &areas[0]));
	scan(w, 64);
}

/* All pages are there, so no fault ever waits for an answer. */
static void userfaultfd_setup(void)
{
	fill_area(make_area(4 * MIB, 4 * MIB));
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = { .range = { (uintptr_t)areas[0].base, areas[0].pages * PAGE }, .mode = UFFDIO_REGISTER_MODE_MISSING };
	if (fd < 0 || ioctl(fd, UFFDIO_API, &api) || ioctl(fd, UFFDIO_REGISTER, &reg))
		setup_failed("userfaultfd");
}

/* ---- forks ---- */

enum { CHILDREN = 4 };
static pid_t children[CHILDREN];

static void forks_setup(void) { fill_area(make_area(12 * MIB, 12 * MIB)); }

static void change_some(struct worker *w, struct area *a, int n)
{
	while (n-- > 0)
		change(w, a, below(w, a->pages), below(w, a->pages));
}

static void drop(struct worker *w, struct area *a);

static void reap(pid_t *child, int flags)
{
	int status;
	pid_t got;
	while ((got = waitpid(*child, &status, flags)) < 0)
		if (errno != EINTR)
			BAD("waitpid %d: %s", *child, strerror(errno));
	if (got && status)
		BAD("child %d ended with status %#x", *child, status);
	if (got)
		*child = 0;
}

static pid_t beget(struct worker *w, struct area *a, int generation);

/* It inherits memory and notes, changes both for itself, and tells by its exit status. */
__attribute__((noreturn)) static void child_life(struct worker *w, struct area *a, int generation)
{
	w->salt = getpid() & 0xffff;
	w->random = mix(w->random ^ w->salt);
	pid_t child = generation == 1 && below(w, 3) == 0 ? beget(w, a, 2) : 0;
	for (int i = 0; i < 5; i++) {
		change_some(w, a, 30);
		drop(w, a);
		nap(10000);
	}
	if (child)
		reap(&child, 0);
	check_range(a, 0, a->pages);
	check_range(&w->stack, 0, 2);
	_exit(0);
}

static pid_t beget(struct worker *w, struct area *a, int generation)
{
	pid_t pid = fork();
	if (pid < 0)
		BAD("fork: %s", strerror(errno));
	if (pid == 0)
		child_life(w, a, generation);
	return pid;
}

/* As programs are started: the parent stops for nobody before the child is on its own. */
static void start_slowly(void)
{
	pid_t child = vfork();
	if (!child) {
		nap(15000);
		_exit(0);
	}
	reap(&child, 0);
}

static void forks_step(struct worker *w)
{
	struct area *a = &areas[0];
	if (below(w, 4) == 0)
		start_slowly();
	pid_t *child = &children[below(w, CHILDREN)];
	if (*child)
		reap(child, WNOHANG);
	if (!*child)
		*child = beget(w, a, 1);
	change_some(w, a, 16);
	scan(w, 128);
	for (int i = 0; atomic_load(&ending) && i < CHILDREN; i++)
		if (children[i])
			reap(&children[i], 0);
}

/* ---- discard ---- */

/* Two threads change the mappings of one process at the same time. */
static void discard_setup(void)
{
	fill_area(make_area(16 * MIB, 16 * MIB));
	fill_area(make_area(16 * MIB, 16 * MIB));
}

static void free_later(struct area *a, long i, long n)
{
	done(madvise(page(a, i), n * PAGE, MADV_FREE), "MADV_FREE");
	for (; n > 0; i++, n--)
		a->notes[i].freed = 1;
}

/* Gives up a range of pages in one of four ways. */
static void drop(struct worker *w, struct area *a)
{
	long n = 1 + below(w, 48), i = below(w, a->pages - n);
	void *p = page(a, i);
	check_maybe(w, a, i, n);
	switch (below(w, 4)) {
	case 0:
		return free_later(a, i, n);
	case 1:
		done(madvise(p, n * PAGE, MADV_DONTNEED), "MADV_DONTNEED");
		break;
	case 2:
		map_at(p, n, PROT_READ | PROT_WRITE, MAP_FIXED);
		break;
	default:
		done(munmap(p, n * PAGE), "munmap");
		nap(200);
		map_at(p, n, PROT_READ | PROT_WRITE, MAP_FIXED_NOREPLACE);
	}
	forget(a, i, n);
	check_maybe(w, a, i, n); /* maps the zero page */
}

static void discard_step(struct worker *w)
{
	struct area *a = &areas[w->id];
	drop(w, a);
	for (long n = 1 + below(w, 48), i = below(w, a->pages - n); n > 0; i++, n--) {
		check(a, i);
		fill(w, a, i);
	}
	change_some(w, a, 8);
	scan(w, 128);
}

/* ---- remap ---- */

enum { SMALL = 4, ELASTIC = 4 * MIB }; /* pages */
static void *spare, *windows[2];

/* Pieces of 2 MiB, half of them of huge pages; pieces of 16 KiB; a mapping that grows. */
static void remap_setup(void)
{
	struct area *a = make_area(16 * BIG, 16 * BIG);
	done(madvise(a->base, 8 * BIG * PAGE, MADV_HUGEPAGE), "MADV_HUGEPAGE");
	fill_area(a);
	fill_area(make_area(64 * SMALL, 64 * SMALL));
	fill_area(make_area(MIB, ELASTIC));
	spare = reserve(BIG);
	windows[0] = reserve(ELASTIC);
	windows[1] = reserve(ELASTIC);
}

static void move_piece(void *from, void *to, long pages)
{
	mapped(mremap(from, pages * PAGE, pages * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to), "mremap of a piece");
}

static void swap_pieces(struct worker *w, struct area *a, long size)
{
	long i = below(w, a->pages / size) * size, j = below(w, a->pages / size) * size;
	if (i == j)
		return;
	move_piece(page(a, i), spare, size);
	nap(below(w, 300));
	move_piece(page(a, j), page(a, i), size);
	nap(below(w, 300));
	move_piece(spare, page(a, j), size);
	map_at(spare, size, PROT_NONE, MAP_FIXED);
	for (long k = 0; k < size; k++) {
		struct note n = a->notes[i + k];
		a->notes[i + k] = a->notes[j + k];
		a->notes[j + k] = n;
	}
}

/* The pages go, the mapping stays and is empty; then they come back over it. */
static void lift_piece(struct worker *w, struct area *a, long size)
{
	static struct note notes[BIG];
	long i = below(w, a->pages / size) * size;
	struct area empty = { (void *)page(a, i), notes, size };
	forget(&empty, 0, size);
	mapped(mremap(empty.base, size * PAGE, size * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP, spare), "mremap with MREMAP_DONTUNMAP");
	nap(below(w, 300));
	check_range(&empty, 0, size);
	poke(w, &empty, below(w, size));
	nap(below(w, 300));
	check_range(&empty, 0, size);
	move_piece(spare, empty.base, size);
	map_at(spare, size, PROT_NONE, MAP_FIXED);
	check_maybe(w, a, i, size);
}

/* To another size, and now and then to a place that is told. */
static void stretch(struct worker *w, struct area *a)
{
	long pages = MIB / 2 + below(w, ELASTIC - MIB), old = a->pages;
	void *to = windows[below(w, 2)], *from = a->base;
	check_maybe(w, a, 0, old);
	if (to == from || below(w, 2))
		a->base = mapped(mremap(from, old * PAGE, pages * PAGE, MREMAP_MAYMOVE), "mremap to another size");
	else
		a->base = mapped(mremap(from, old * PAGE, pages * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to), "mremap to another size and place");
	for (int i = 0; i < 2; i++)
		if (from == windows[i] && a->base != from)
			map_at(from, ELASTIC, PROT_NONE, MAP_FIXED);
	a->pages = pages;
	if (pages > old)
		forget(a, old, pages - old);
	check_maybe(w, a, 0, pages);
}

static void remap_step(struct worker *w)
{
	swap_pieces(w, &areas[0], BIG);
	swap_pieces(w, &areas[1], SMALL);
	if (below(w, 4) == 0)
		lift_piece(w, &areas[below(w, 2)], SMALL);
	if (below(w, 16) == 0)
		lift_piece(w, &areas[0], BIG);
	if (below(w, 4) == 0)
		stretch(w, &areas[2]);
	for (int i = 0; i < n_areas; i++)
		change_some(w, &areas[i], 6);
	scan(w, 256);
}

/* ---- huge ---- */

/* Half of the huge pages are full; of the others a few words are not zero. */
static void huge_setup(void)
{
	struct area *a = make_area(16 * BIG, 16 * BIG);
	done(madvise(a->base, a->pages * PAGE, MADV_HUGEPAGE), "MADV_HUGEPAGE");
	for (long i = 0; i < a->pages; i++)
		if (i / BIG % 2)
			fill(&workers[0], a, i);
		else if (i % 64 == 5)
			poke(&workers[0], a, i);
}

static void huge_drop(struct worker *w, struct area *a, long size)
{
	long i = below(w, a->pages / size) * size;
	check_maybe(w, a, i, size);
	done(madvise(page(a, i), size * PAGE, MADV_DONTNEED), "MADV_DONTNEED");
	forget(a, i, size);
	poke(w, a, i + below(w, size));
}

static void huge_step(struct worker *w)
{
	struct area *a = &areas[0];
	for (int n = 0; n < 24; n++) {
		long i = below(w, a->pages);
		check(a, i);
		poke(w, a, i);
	}
	if (below(w, 2))
		huge_drop(w, a, 1);
	if (below(w, 16) == 0)
		huge_drop(w, a, BIG);
	if (below(w, 32) == 0) /* it may refuse, and not every kernel has it */
		madvise(page(a, below(w, 16) * BIG), BIG * PAGE, MADV_COLLAPSE);
	change_some(w, a, 4);
	scan(w, 192);
}

/* ---- threads ---- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uint64_t total, slots[THREADS];
static atomic_uint balls[THREADS / 2];

static void threads_setup(void) { fill_area(make_area(8 * THREADS, 8 * THREADS)); }

/* Two threads hand a number to each other, one of them sleeping in its turn. */
static void play(struct worker *w)
{
	atomic_uint *ball = &balls[w->id / 2];
	unsigned now, want = 2 * w->ball + w->id % 2;
	while ((now = atomic_load(ball)) != want) {
		if (now + 1 != want)
			BAD("thread %ld sees ball %u, waits for %u", w->id, now, want);
		if (atomic_load(&ending))
			return;
		struct timespec most = { 0, 200 * 1000 * 1000 };
		syscall(SYS_futex, ball, FUTEX_WAIT_PRIVATE, now, &most, NULL, 0);
	}
	if (w->id % 2)
		nap(20000 + below(w, 20000));
	w->ball++;
	atomic_store(ball, want + 1);
	syscall(SYS_futex, ball, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

static void count(struct worker *w)
{
	uint64_t sum = 0;
	pthread_mutex_lock(&lock);
	slots[w->id]++;
	total++;
	for (int i = 0; i < THREADS; i++)
		sum += slots[i];
	uint64_t all = total, mine = slots[w->id];
	pthread_mutex_unlock(&lock);
	if (sum != all || mine != ++w->counted)
		BAD("thread %ld counted %lu, its slot says %lu; all slots %lu, total %lu", w->id, w->counted, mine, sum, all);
}

static void threads_step(struct worker *w)
{
	play(w);
	count(w);
	change(w, &areas[0], own_page(w, &areas[0]), own_page(w, &areas[0]));
	scan(w, 2);
}

/* ---- main ---- */

static const struct role roles[] = {
	{ "random", 3, 2000, random_setup, random_step },
	{ "aligned", 3, 2000, aligned_setup, random_step },
	{ "forks", 1, 10000, forks_setup, forks_step },
	{ "remap", 1, 4000, remap_setup, remap_step },
	{ "discard", 2, 3000, discard_setup, discard_step, 1 },
	{ "huge", 1, 2000, huge_setup, huge_step },
	{ "threads", THREADS, 1000, threads_setup, threads_step },
	{ "userfaultfd", 2, 4000, userfaultfd_setup, random_step },
};

static void *worker_main(void *arg)
{
	struct worker *w = arg;
	unsigned char stack[2 * PAGE] __attribute__((aligned(4096)));
	struct note notes[2] = { { 0 } };
	w->stack = (struct area){ stack, notes, 2 };
	fill(w, &w->stack, 0);
	fill(w, &w->stack, 1);
	while (!atomic_load(&ending)) {
		role->step(w);
		change(w, &w->stack, below(w, 2), below(w, 2));
		nap(role->nap_us);
	}
	role->step(w); /* it knows that this is the end */
	check_range(&w->stack, 0, 2);
	return NULL;
}

static void start_workers(void)
{
	pthread_attr_t attr;
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 128 << 10);
	for (long i = 0; i < role->workers; i++) {
		workers[i].id = i;
		look_at(&workers[i], 0);
		workers[i].random = workers[i].salt = i + 1;
		workers[i].stamps = 1 << 20; /* no page of the setup has it */
		if ((errno = pthread_create(&workers[i].thread, &attr, worker_main, &workers[i])))
			setup_failed("pthread_create");
	}
}

static long passes(void)
{
	long least = atomic_load(&workers[0].passes);
	for (long i = 1; i < role->workers; i++) {
		long n = atomic_load(&workers[i].passes);
		least = n < least ? n : least;
	}
	return least;
}

static void finish(void)
{
	atomic_store(&ending, 1);
	for (long i = 0; i < role->workers; i++)
		pthread_join(workers[i].thread, NULL);
	for (long i = 0; i < n_areas; i++)
		check_range(&areas[i], 0, areas[i].pages);
	say(1, "bye\n");
	_exit(0);
}

static void on_term(int sig) { want_end = sig; }

static time_t seconds(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec;
}

int main(int argc, char **argv)
{
	for (size_t i = 0; argc > 1 && i < sizeof roles / sizeof *roles; i++)
		if (strcmp(roles[i].name, argv[1]) == 0)
			role = &roles[i];
	if (!role || (argc != 2 && (argc != 4 || strcmp(argv[2], "--seconds")))) {
		say(2, "usage: breaker ROLE [--seconds N]\n");
		return EXIT_SETUP;
	}
	time_t end = seconds() + (argc == 4 ? atol(argv[3]) : 300);
	struct sigaction act = { .sa_handler = on_term };
	sigaction(SIGTERM, &act, NULL);
	role->setup();
	for (long i = 0; i < n_areas; i++)
		say(1, "area %p %ld\n", (void *)areas[i].base, areas[i].pages);
	start_workers();
	say(1, "ready\n");
	for (long printed = 0; !want_end && seconds() < end; nap(20000))
		while (printed < passes())
			say(1, "ok %ld\n", ++printed);
	finish();
}
