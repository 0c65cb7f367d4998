// SPDX-License-Identifier: BSD-2-Clause
/* Register state of threads and processes that take turns on one processor. */
#define GUEST_STATE_CODE
#include "state.h"

#include <math.h>
#include <pthread.h>

static enum vectors best;
static double deadline;
static _Atomic long bad, rounds;

static void *hold_for_a_while(void *arg)
{
	struct state s;
	uint64_t seed = (uint64_t)(uintptr_t)arg * 1000 + 1;

	while (now() < deadline) {
		state_make(&s, best, seed++);
		if (!state_hold(&s, best, 100000))
			bad++;
		rounds++;
		if (seed % 4 == 0)
			sched_yield();
		if (seed % 7 == 0)
			usleep(100);
	}
	return NULL;
}

static void threads_hold(int n, double seconds)
{
	pthread_t t[16];

	best = best_vectors();
	deadline = now() + seconds;
	for (long i = 0; i < n; i++)
		CHECK(pthread_create(&t[i], NULL, hold_for_a_while, (void *)(i + 1)) == 0);
	for (int i = 0; i < n; i++)
		pthread_join(t[i], NULL);
	CHECK_EQ(bad, 0);
	CHECK(rounds >= n);
}

TEST(state_of_threads)
{
	threads_hold(6, 4);
}

TEST(state_of_processes)
{
	for (int i = 0; i < 4; i++) {
		if (fork_ok() == 0) {
			threads_hold(2, 4);
			_exit(0);
		}
	}
	for (int i = 0; i < 4; i++) {
		int st;
		CHECK(wait(&st) > 0);
		CHECK_EQ(st, 0);
	}
}

TEST(state_across_fork)
{
	/* What stands in the registers when fork is called stands there in parent and child. */
	for (int i = 0; i < 40; i++) {
		uint64_t a[2], in[2] = {0x1122334455667788 + (uint64_t)i, 0x99aabbccddeeff00};
		long pid;
		asm volatile("movdqu %2, %%xmm9\n\tmov $57, %%eax\n\tsyscall\n\tmovdqu %%xmm9, %1"
			     : "=&a"(pid), "=m"(a)
			     : "m"(in)
			     : "rcx", "r11", "xmm9", "memory");
		CHECK(a[0] == in[0] && a[1] == in[1]);
		if (pid == 0)
			_exit(0);
		wait_ok((pid_t)pid);
	}
}

static void *new_thread_state(void *arg)
{
	uint32_t mxcsr;
	uint16_t fcw;

	asm volatile("stmxcsr %0\n\tfnstcw %1" : "=m"(mxcsr), "=m"(fcw));
	*(uint64_t *)arg = (uint64_t)mxcsr << 16 | fcw;
	return NULL;
}

TEST(state_is_inherited_by_threads_and_fresh_after_exec)
{
	uint32_t mxcsr = 0x3f80;
	uint16_t fcw = 0x27f;
	uint64_t got;
	pthread_t t;

	asm volatile("ldmxcsr %0\n\tfldcw %1" : : "m"(mxcsr), "m"(fcw));
	CHECK(pthread_create(&t, NULL, new_thread_state, &got) == 0);
	pthread_join(t, NULL);
	CHECK_EQ(got, 0x3f80ul << 16 | 0x27f);
	pid_t pid = fork_ok();
	if (pid == 0) {
		execl("/proc/self/exe", "fpu", "--fresh", NULL);
		_exit(255);
	}
	wait_ok(pid);
}

static void *compute(void *arg)
{
	double x = 1.5 + (double)(long)arg, sum = 0;
	long double y = 1;

	for (int i = 1; i < 200000; i++) {
		sum += sin(x * i) * sqrt((double)i);
		y = y * 1.0000001L + 0.5L;
		if (i % 5000 == 0)
			sched_yield();
	}
	double *result = malloc(2 * sizeof(double));
	result[0] = sum;
	result[1] = (double)y;
	return result;
}

TEST_LIMIT(same_results_alone_and_together, 180)
{
	pthread_t t[5];
	double *alone[5], *together[5];

	for (long i = 0; i < 5; i++)
		alone[i] = compute((void *)i);
	for (long i = 0; i < 5; i++)
		CHECK(pthread_create(&t[i], NULL, compute, (void *)i) == 0);
	for (int i = 0; i < 5; i++) {
		pthread_join(t[i], (void **)&together[i]);
		CHECK(memcmp(alone[i], together[i], 2 * sizeof(double)) == 0);
	}
}

TEST(vectors_with_the_kernel_between)
{
	/* System calls that make the kernel use vector registers itself or touch much memory. */
	struct state s;
	char buf[4096];
	int fd = open("/dev/urandom", O_RDONLY), null = open("/dev/null", O_WRONLY);

	best = best_vectors();
	for (uint64_t i = 0; i < 300; i++) {
		uint64_t in[4] = {i, ~i, i * 77, i ^ 0x5555}, out[4] = {0};
		long n;
		asm volatile(
			"movdqu %2, %%xmm3\n\tmovdqu 16+%2, %%xmm14\n\tsyscall\n\tmovdqu %%xmm3, %1\n\tmovdqu %%xmm14, 16+%1"
			: "=a"(n), "=m"(out)
			: "m"(in), "a"((long)SYS_read), "D"((long)fd), "S"(buf), "d"(sizeof(buf))
			: "rcx", "r11", "xmm3", "xmm14", "memory");
		CHECK_EQ(n, sizeof(buf));
		CHECK(memcmp(in, out, sizeof(in)) == 0);
		CHECK_EQ(write(null, buf, sizeof(buf)), sizeof(buf));
		state_make(&s, best, i);
		CHECK(state_hold(&s, best, 10));
	}
}

TEST(unused_vectors_stay_unused)
{
	/* 256-bit halves that were zeroed stay zero over a sleep (init optimisation of xsave). */
	if (best_vectors() == SSE)
		SKIP("no AVX");
	for (int i = 0; i < 50; i++) {
		uint64_t out[4];
		asm volatile("vzeroall"
			     :
			     :
			     : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10",
			       "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
		syscall(SYS_nanosleep, &(struct timespec){.tv_nsec = 100000}, NULL);
		asm volatile("vmovdqu %%ymm6, %0" : "=m"(out));
		CHECK((out[2] | out[3]) == 0);
	}
}

int main(int argc, char **argv)
{
	if (argc > 1 && strcmp(argv[1], "--fresh") == 0) {
		uint64_t got;
		new_thread_state(&got);
		return got != (0x1f80ul << 16 | 0x37f);
	}
	return run_tests(argc, argv);
}
