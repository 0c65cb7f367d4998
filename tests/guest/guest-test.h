/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Frame of the guest tests: programs that exercise a Linux kernel (and what it runs on) from user space and check every
 * result. They are static, run anywhere (natively, in QEMU, under LoL), and print a line "ok NAME", "not ok NAME" or
 * "skip NAME" for each test. Each test runs in a process of its own with a time limit, so that a crash or a hang is one
 * test's failure; GUEST_TEST_PATIENCE=N makes the limits N times as long.
 *
 *   TEST(name) { ... CHECK(condition); ... }      one test; returning is success
 *   TEST_LIMIT(name, seconds) { ... }
 *   int main(int argc, char **argv) { return run_tests(argc, argv); }     arguments: parts of the names to run
 */
#ifndef GUEST_TEST_H
#define GUEST_TEST_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define PAGE 4096ul
#define SKIPPED 77
#define DEFAULT_LIMIT 60 /* seconds; emulated machines are slow */

#define CHECK(condition) \
	do { \
		if (!(condition)) \
			check_failed(__FILE__, __LINE__, #condition, 0, 0, false); \
	} while (0)
/* Two integers that should be equal; both are shown. */
#define CHECK_EQ(a, b) \
	do { \
		long check_a = (long)(a), check_b = (long)(b); \
		if (check_a != check_b) \
			check_failed(__FILE__, __LINE__, #a " == " #b, check_a, check_b, true); \
	} while (0)
#define SKIP(why) \
	do { \
		printf("# %s\n", why); \
		fflush(stdout); \
		_exit(SKIPPED); \
	} while (0)

static inline void __attribute__((noreturn))
check_failed(const char *file, int line, const char *what, long a, long b, bool values)
{
	int err = errno;
	const char *slash = strrchr(file, '/');
	char text[512];
	int n = snprintf(text, sizeof(text), "# %s:%d: %s", slash ? slash + 1 : file, line, what);

	if (values)
		n += snprintf(text + n, sizeof(text) - (size_t)n, " (%ld 0x%lx, %ld 0x%lx)", a, a, b, b);
	n += snprintf(text + n, sizeof(text) - (size_t)n, " errno %d pid %d\n", err, (int)getpid());
	(void)!write(STDOUT_FILENO, text, (size_t)n);
	_exit(1);
}

struct test {
	const char *name;
	void (*run)(void);
	unsigned int limit;
	struct test *next;
};

static struct test *all_tests, **last_test = &all_tests;

static inline void register_test(struct test *t)
{
	*last_test = t;
	last_test = &t->next;
}

#define TEST_LIMIT(id, seconds) \
	static void test_##id(void); \
	static struct test test_entry_##id = {.name = #id, .run = test_##id, .limit = seconds}; \
	static void __attribute__((constructor)) register_##id(void) \
	{ \
		register_test(&test_entry_##id); \
	} \
	static void test_##id(void)
#define TEST(id) TEST_LIMIT(id, DEFAULT_LIMIT)

static inline double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static inline void sleep_ms(long ms)
{
	struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};

	while (nanosleep(&t, &t) && errno == EINTR)
		;
}

/* Numbers that are the same on every machine. */
static inline uint64_t rnd(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

static inline void *map(size_t len, int prot, int flags)
{
	void *p = mmap(NULL, len, prot, flags, -1, 0);

	CHECK(p != MAP_FAILED);
	return p;
}

static inline void *map_rw(size_t len)
{
	return map(len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
}

static inline void *map_shared(size_t len)
{
	return map(len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS);
}

static inline void on_signal(int sig, void (*handler)(int, siginfo_t *, void *), int flags)
{
	struct sigaction sa = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | flags};

	sigemptyset(&sa.sa_mask);
	CHECK(sigaction(sig, &sa, NULL) == 0);
}

/* The child must exit with status 0; its own CHECKs speak for themselves. */
static inline void wait_ok(pid_t pid)
{
	int st;

	CHECK_EQ(waitpid(pid, &st, 0), pid);
	CHECK_EQ(st, 0);
}

static inline pid_t fork_ok(void)
{
	fflush(stdout);
	pid_t pid = fork();
	CHECK(pid >= 0);
	return pid;
}

static inline int run_one(const struct test *t)
{
	int st;
	double start = now();
	const char *patience = getenv("GUEST_TEST_PATIENCE");
	unsigned limit = t->limit * (patience ? (unsigned)atoi(patience) : 1);

	fflush(stdout);
	pid_t pid = fork();
	if (pid < 0)
		return 1;
	if (pid == 0) {
		setpgid(0, 0);
		for (int sig = 1; sig < NSIG; sig++) /* a shell's background jobs ignore some */
			signal(sig, SIG_DFL);
		t->run();
		fflush(stdout);
		_exit(0);
	}
	setpgid(pid, pid);
	for (;;) {
		pid_t got = waitpid(pid, &st, WNOHANG);
		if (got == pid)
			break;
		if (now() - start > limit) {
			printf("# not finished after %u s\n", limit);
			kill(-pid, SIGKILL);
			waitpid(pid, &st, 0);
			st = SIGKILL;
			break;
		}
		sleep_ms(now() - start < 0.1 ? 1 : 10);
	}
	kill(-pid, SIGKILL); /* what the test has left behind */
	bool skipped = WIFEXITED(st) && WEXITSTATUS(st) == SKIPPED;
	if (WIFSIGNALED(st))
		printf("# ended by signal %d\n", WTERMSIG(st));
	printf("%s %s\n", st == 0 ? "ok" : skipped ? "skip" : "not ok", t->name);
	fflush(stdout);
	return st != 0 && !skipped;
}

static inline int run_tests(int argc, char **argv)
{
	int failures = 0, count = 0;

	for (const struct test *t = all_tests; t; t = t->next) {
		bool wanted = argc < 2;

		for (int i = 1; i < argc; i++)
			wanted = wanted || strstr(t->name, argv[i]);
		if (!wanted)
			continue;
		count++;
		failures += run_one(t);
	}
	printf("# %d tests, %d failed\n", count, failures);
	return failures ? 1 : 0;
}

#endif
