/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Several CPUs, seen from a program: threads in parallel, migration, shared and changing mappings, and litmus tests (x86-TSO:
 * Sewell and others, "x86-TSO: a rigorous and usable programmer's model"). Prints one line a test and "all ok".
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/membarrier.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static unsigned ncpus, bad;

static void pin(unsigned cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu % ncpus, &set);
	if (sched_setaffinity(0, sizeof(set), &set)) {
		perror("sched_setaffinity");
		exit(1);
	}
}

static void verdict(const char *name, bool ok)
{
	printf("%s %s\n", ok ? "ok" : "not ok", name);
	fflush(stdout);
	bad += !ok;
}

/* ---- counters ---- */

#define ADDS 100000
static _Atomic uint64_t counter;
static uint64_t plain_counter;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

static void *adder(void *arg)
{
	pin((unsigned)(uintptr_t)arg);
	for (int i = 0; i < ADDS; i++)
		atomic_fetch_add(&counter, 1);
	for (int i = 0; i < ADDS / 20; i++) {
		pthread_mutex_lock(&mutex);
		plain_counter++;
		pthread_mutex_unlock(&mutex);
	}
	return NULL;
}

static void counters(void)
{
	unsigned n = ncpus + 1;
	pthread_t t[65];

	for (unsigned i = 0; i < n; i++)
		pthread_create(&t[i], NULL, adder, (void *)(uintptr_t)i);
	for (unsigned i = 0; i < n; i++)
		pthread_join(t[i], NULL);
	verdict("locked counters", counter == (uint64_t)n * ADDS && plain_counter == (uint64_t)n * (ADDS / 20));
}

/* ---- migration: vector and general registers, memory and the CPU number come along ---- */

static void migrate(void)
{
	bool ok = true;
	int status;

	for (unsigned child = 0; child < 3; child++) {
		if (fork())
			continue;
		double x = child + 1.5, y;
		for (unsigned i = 0; i < 100; i++) {
			unsigned cpu;
			asm volatile("movsd %0, %%xmm15" ::"m"(x) : "xmm15");
			pin(i + child);
			asm volatile("movsd %%xmm15, %0" : "=m"(y)::"xmm15");
			syscall(SYS_getcpu, &cpu, NULL, NULL);
			if (x != y || cpu != (i + child) % ncpus)
				_exit(1);
			x += 1;
		}
		_exit(0);
	}
	while (wait(&status) > 0)
		ok &= status == 0;
	verdict("processes that migrate", ok);
}

/* ---- shootdown: what one thread unmaps or protects, no other can use afterwards ---- */

static volatile char *volatile page;
static _Atomic unsigned faults, stale;
static _Atomic bool finished;
static _Thread_local volatile bool watching;

static void on_segv(int sig, siginfo_t *si, void *uc)
{
	(void)sig;
	(void)si;
	atomic_fetch_add(&faults, 1);
	if (!watching)
		_exit(3);
	((ucontext_t *)uc)->uc_mcontext.gregs[REG_RIP] += 3; /* over the store below */
}

static void *writer(void *arg)
{
	pin((unsigned)(uintptr_t)arg);
	watching = true;
	while (!atomic_load(&finished))
		asm volatile("movb $1, (%0)" ::"a"(page) : "memory"); /* 3 bytes */
	return NULL;
}

static void shootdown(void)
{
	struct sigaction sa = {.sa_sigaction = on_segv, .sa_flags = SA_SIGINFO};
	pthread_t t[8];
	unsigned n = ncpus - 1 < 8 ? ncpus - 1 : 8, rounds = 0;

	sigaction(SIGSEGV, &sa, NULL);
	page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	for (unsigned i = 0; i < n; i++)
		pthread_create(&t[i], NULL, writer, (void *)(uintptr_t)(i + 1));
	pin(0);
	while (rounds < 60 || (atomic_load(&faults) < 20 && rounds < 100000)) {
		mprotect((void *)page, 4096, PROT_READ | PROT_WRITE);
		page[0] = 0;
		mprotect((void *)page, 4096, PROT_READ);
		/* Nobody can write any more: what is there now stays. */
		char seen = page[0];
		for (unsigned k = 0; k < 2000; k++)
			if (page[0] != seen)
				atomic_fetch_add(&stale, 1);
		rounds++;
	}
	atomic_store(&finished, true);
	for (unsigned i = 0; i < n; i++)
		pthread_join(t[i], NULL);
	signal(SIGSEGV, SIG_DFL);
	if (stale || !faults)
		printf("# stale %u, faults %u in %u rounds\n", stale, faults, rounds);
	verdict("mprotect reaches every CPU", stale == 0 && faults > 0);
}

static _Atomic bool stop;

static void *mapper(void *arg)
{
	unsigned n = (unsigned)(uintptr_t)arg;
	uintptr_t wrong = 0;

	pin(n);
	for (unsigned i = 0; i < 400 / ncpus; i++) {
		size_t len = 4096 * (1 + (i + n) % 40);
		unsigned char *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		for (size_t k = 0; k < len; k += 4096)
			wrong += p[k] != 0;
		memset(p, (int)(n + 1), len);
		if (i % 3 == 0)
			madvise(p, len, MADV_DONTNEED);
		for (size_t k = 0; k < len; k += 4096)
			wrong += p[k] != (i % 3 == 0 ? 0 : n + 1);
		munmap(p, len);
	}
	return (void *)wrong;
}

static void mappers(void)
{
	unsigned n = ncpus < 8 ? ncpus : 8;
	pthread_t t[8];
	uintptr_t wrong = 0;

	for (unsigned i = 0; i < n; i++)
		pthread_create(&t[i], NULL, mapper, (void *)(uintptr_t)i);
	for (unsigned i = 0; i < n; i++) {
		void *r;
		pthread_join(t[i], &r);
		wrong += (uintptr_t)r;
	}
	verdict("threads that map and unmap", wrong == 0);
}

/* ---- fork and copy-on-write while siblings write ---- */

static volatile uint64_t cow[512 * 8];

static void *cow_writer(void *arg)
{
	pin((unsigned)(uintptr_t)arg);
	for (uint64_t i = 1; !atomic_load(&stop); i++)
		for (unsigned k = 0; k < 8; k++)
			cow[512 * k] = i; /* never goes back */
	return NULL;
}

static void forks(void)
{
	pthread_t t;
	bool ok = true;

	pthread_create(&t, NULL, cow_writer, (void *)1);
	pin(0);
	for (unsigned i = 0; i < 30; i++) {
		pid_t pid = fork();
		if (pid == 0) {
			uint64_t a = cow[0];
			for (volatile int k = 0; k < 20000; k++)
				;
			_exit(cow[0] != a);
		}
		int status;
		waitpid(pid, &status, 0);
		ok &= status == 0;
	}
	atomic_store(&stop, true);
	pthread_join(t, NULL);
	verdict("fork while a sibling writes", ok);
}

/* ---- two processes at the same addresses ---- */

static void same_address(void)
{
	static unsigned char buf[65536];
	bool ok = true;
	int status;

	for (unsigned c = 0; c < ncpus && c < 4; c++) {
		if (fork())
			continue;
		pin(c);
		for (unsigned round = 0; round < 100; round++) {
			int fd[2];
			unsigned char in[4096];
			if (pipe(fd))
				_exit(2);
			memset(buf, (int)(c * 16 + round % 16), sizeof(buf));
			if (write(fd[1], buf, 4096) != 4096 || read(fd[0], in, 4096) != 4096)
				_exit(3);
			for (unsigned k = 0; k < 4096; k++)
				if (in[k] != c * 16 + round % 16)
					_exit(1);
			close(fd[0]);
			close(fd[1]);
		}
		_exit(0);
	}
	while (wait(&status) > 0)
		ok &= status == 0;
	verdict("equal addresses in several processes", ok);
}

/* ---- litmus tests: what each thread does in a round, and which results x86 forbids ---- */

static struct {
	_Alignas(64) volatile int x;
	_Alignas(64) volatile int y;
	_Alignas(64) _Atomic unsigned round[4];
	_Alignas(64) volatile int r[4];
} l;

static void message_passing(unsigned me)
{
	if (me == 0) {
		l.x = 1;
		l.y = 1;
	} else {
		l.r[0] = l.y;
		l.r[1] = l.x;
	}
}

static bool first_without_second(void)
{
	return l.r[0] == 1 && l.r[1] == 0;
}

static void store_buffering(unsigned me)
{
	*(me ? &l.y : &l.x) = 1;
	l.r[me] = *(me ? &l.x : &l.y);
}

static void store_buffering_fences(unsigned me)
{
	*(me ? &l.y : &l.x) = 1;
	atomic_thread_fence(memory_order_seq_cst);
	l.r[me] = *(me ? &l.x : &l.y);
}

/* One side's fence is the other's to send: an interrupt for every CPU that runs a thread of this process. */
static void store_buffering_membarrier(unsigned me)
{
	*(me ? &l.y : &l.x) = 1;
	if (me)
		syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0);
	else
		atomic_signal_fence(memory_order_seq_cst);
	l.r[me] = *(me ? &l.x : &l.y);
}

static bool both_zero(void)
{
	return l.r[0] == 0 && l.r[1] == 0;
}

static void load_buffering(unsigned me)
{
	l.r[me] = *(me ? &l.y : &l.x);
	*(me ? &l.x : &l.y) = 1;
}

static bool both_one(void)
{
	return l.r[0] == 1 && l.r[1] == 1;
}

static void one_location(unsigned me)
{
	if (me == 0) {
		l.x = 1;
		l.x = 2;
	} else {
		l.r[0] = l.x;
		l.r[1] = l.x;
	}
}

static bool backwards(void)
{
	return l.r[0] > l.r[1];
}

static void independent_writers(unsigned me)
{
	switch (me) {
	case 0:
		l.x = 1;
		break;
	case 1:
		l.y = 1;
		break;
	case 2:
		l.r[0] = l.x;
		l.r[1] = l.y;
		break;
	case 3:
		l.r[2] = l.y;
		l.r[3] = l.x;
		break;
	}
}

static bool readers_disagree(void)
{
	return l.r[0] == 1 && l.r[1] == 0 && l.r[2] == 1 && l.r[3] == 0;
}

static const struct litmus {
	const char *name;
	unsigned threads, rounds;
	void (*part)(unsigned me);
	bool (*result)(void);
	bool allowed; /* the result is; then it is counted only */
} litmus_tests[] = {
	{"message passing", 2, 30000, message_passing, first_without_second, false},
	{"store buffering", 2, 30000, store_buffering, both_zero, true},
	{"store buffering with fences", 2, 30000, store_buffering_fences, both_zero, false},
	{"store buffering with membarrier", 2, 3000, store_buffering_membarrier, both_zero, false},
	{"load buffering", 2, 30000, load_buffering, both_one, false},
	{"one location", 2, 30000, one_location, backwards, false},
	{"independent reads of independent writes", 4, 10000, independent_writers, readers_disagree, false},
};
static const struct litmus *now;
static unsigned long seen;

static void meet(unsigned me, unsigned round)
{
	atomic_store(&l.round[me], round);
	for (unsigned other = 0; other < now->threads; other++)
		for (unsigned spins = 0; atomic_load(&l.round[other]) < round; spins++)
			if (spins > 1000)
				sched_yield();
}

static void *litmus_thread(void *arg)
{
	unsigned me = (unsigned)(uintptr_t)arg, n = 0;

	pin(me);
	for (unsigned i = 0; i < now->rounds; i++) {
		if (me == 0)
			l.x = l.y = 0;
		meet(me, ++n);
		now->part(me);
		meet(me, ++n);
		if (me == 0)
			seen += now->result();
	}
	return NULL;
}

static void litmus(void)
{
	if (syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0)) {
		perror("membarrier");
		bad++;
	}
	for (now = litmus_tests; now < litmus_tests + sizeof(litmus_tests) / sizeof(*litmus_tests); now++) {
		pthread_t t[4];
		char line[64];
		if (now->threads > ncpus)
			continue;
		seen = 0;
		memset((void *)&l, 0, sizeof(l));
		for (unsigned i = 0; i < now->threads; i++)
			pthread_create(&t[i], NULL, litmus_thread, (void *)(uintptr_t)i);
		for (unsigned i = 0; i < now->threads; i++)
			pthread_join(t[i], NULL);
		snprintf(line, sizeof(line), "litmus: %s", now->name);
		verdict(line, now->allowed || seen == 0);
		if (now->allowed)
			printf("# seen %lu times in %u\n", seen, now->rounds);
	}
}

/* ---- two threads at the same time: a token that goes round without any switch of tasks ---- */

#define TOKENS 2000
static _Atomic unsigned token;

static void *token_thread(void *arg)
{
	unsigned me = (unsigned)(uintptr_t)arg;
	struct rusage before, after;

	pin(me);
	getrusage(RUSAGE_THREAD, &before);
	for (unsigned i = me; i < TOKENS; i += 2) {
		while (atomic_load(&token) != i)
			__builtin_ia32_pause();
		atomic_store(&token, i + 1);
	}
	getrusage(RUSAGE_THREAD, &after);
	return (void *)(uintptr_t)(after.ru_nvcsw - before.ru_nvcsw + after.ru_nivcsw - before.ru_nivcsw);
}

static void at_once(void)
{
	pthread_t t[2];
	uintptr_t switches[2];

	for (unsigned i = 0; i < 2; i++)
		pthread_create(&t[i], NULL, token_thread, (void *)(uintptr_t)i);
	for (unsigned i = 0; i < 2; i++)
		pthread_join(t[i], (void **)&switches[i]);
	/* Threads that only take turns would need one for each hand-over. */
	bool ok = switches[0] < TOKENS / 4 && switches[1] < TOKENS / 4;
	if (!ok)
		printf("# %lu and %lu switches for %u hand-overs\n", switches[0], switches[1], TOKENS);
	verdict("threads at the same time", ok);
}

/* ---- each CPU has a timer of its own ---- */

static void timer_interrupts(unsigned long count[64])
{
	char line[2048];
	FILE *f = fopen("/proc/interrupts", "r");

	memset(count, 0, 64 * sizeof(*count));
	while (f && fgets(line, sizeof(line), f)) {
		char *p = strstr(line, "LOC:");
		if (!p)
			continue;
		p += 4;
		for (unsigned i = 0; i < ncpus; i++)
			count[i] = strtoul(p, &p, 10);
	}
	if (f)
		fclose(f);
}

static void *sleeper(void *arg)
{
	pin((unsigned)(uintptr_t)arg);
	for (unsigned i = 0; i < 20; i++) {
		struct timespec ts = {0, 2000000};
		while (clock_nanosleep(CLOCK_MONOTONIC, 0, &ts, &ts) == EINTR)
			;
	}
	return NULL;
}

static void timers(void)
{
	unsigned long before[64], after[64];
	pthread_t t[64];
	bool ok = true;

	timer_interrupts(before);
	for (unsigned i = 0; i < ncpus; i++)
		pthread_create(&t[i], NULL, sleeper, (void *)(uintptr_t)i);
	for (unsigned i = 0; i < ncpus; i++)
		pthread_join(t[i], NULL);
	timer_interrupts(after);
	for (unsigned i = 0; i < ncpus; i++)
		if (after[i] < before[i] + 5) {
			printf("# CPU %u: %lu timer interrupts, then %lu\n", i, before[i], after[i]);
			ok = false;
		}
	verdict("a timer on every CPU", ok);
}

/* ---- signals and futexes between CPUs ---- */

static _Atomic unsigned signals;
static void on_usr1(int sig)
{
	(void)sig;
	atomic_fetch_add(&signals, 1);
}

static void *spinner(void *arg)
{
	pin((unsigned)(uintptr_t)arg);
	while (!atomic_load(&stop))
		;
	return NULL;
}

static void thread_signals(void)
{
	pthread_t t;
	struct sigaction sa = {.sa_handler = on_usr1};
	bool ok = true;

	sigaction(SIGUSR1, &sa, NULL);
	atomic_store(&stop, false);
	pthread_create(&t, NULL, spinner, (void *)1);
	pin(0);
	for (unsigned i = 1; i <= 50; i++) {
		pthread_kill(t, SIGUSR1);
		for (unsigned k = 0; atomic_load(&signals) < i; k++) {
			if (k > 100)
				usleep(1000);
			if (k > 20000) {
				ok = false;
				break;
			}
		}
	}
	atomic_store(&stop, true);
	pthread_join(t, NULL);
	verdict("signals to a computing thread", ok);
}

/* ---- the first system call of a site, on several CPUs at once: sites are rewritten while others run in the page ---- */

static unsigned char *code;
static _Atomic unsigned go;

static void *caller(void *arg)
{
	uintptr_t wrong = 0;

	pin((unsigned)(uintptr_t)arg);
	for (unsigned round = 1; round <= 60; round++) {
		while (atomic_load(&go) < round)
			;
		long (*f)(void) = (void *)(code + 4096 * ((round - 1) / 30) + ((round - 1) % 30) * 64);
		for (unsigned i = 0; i < 200; i++)
			wrong += f() != getpid() + 7;
	}
	return (void *)wrong;
}

static void fresh_sites(void)
{
	/* mov $39 (getpid), %eax; syscall; add $7, %rax; nop ...; ret */
	static const unsigned char f[] = {0xb8, 39, 0, 0, 0, 0x0f, 0x05, 0x48, 0x83, 0xc0, 7, 0x48, 0x89, 0xc0, 0xc3};
	unsigned n = ncpus < 8 ? ncpus : 8;
	pthread_t t[8];
	uintptr_t wrong = 0;

	code = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	for (unsigned i = 0; i < 60; i++)
		memcpy(code + 4096 * (i / 30) + (i % 30) * 64, f, sizeof(f));
	mprotect(code, 8192, PROT_READ | PROT_EXEC);
	for (unsigned i = 0; i < n; i++)
		pthread_create(&t[i], NULL, caller, (void *)(uintptr_t)i);
	pin(0);
	for (unsigned round = 1; round <= 60; round++) {
		atomic_store(&go, round);
		usleep(1000);
	}
	for (unsigned i = 0; i < n; i++) {
		void *r;
		pthread_join(t[i], &r);
		wrong += (uintptr_t)r;
	}
	verdict("new system call sites on all CPUs", wrong == 0);
}

int main(void)
{
	ncpus = (unsigned)sysconf(_SC_NPROCESSORS_ONLN);
	if (ncpus < 2) {
		printf("skip: one CPU\n");
		return 0;
	}
	counters();
	migrate();
	shootdown();
	mappers();
	forks();
	same_address();
	fresh_sites();
	thread_signals();
	at_once();
	timers();
	litmus();
	if (!bad)
		printf("all ok\n");
	return bad != 0;
}
