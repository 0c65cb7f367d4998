// SPDX-License-Identifier: BSD-2-Clause
/*
 * Time: clocks that never go back, the vDSO's against the system call's, sleeps and timers that are not early and (loosely:
 * the host may be busy) not late.
 */
#include "guest-test.h"

#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/timerfd.h>

#define LATE 3.0 /* seconds that a busy host may take */

static int64_t ns(struct timespec t)
{
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int64_t by_vdso(clockid_t clock)
{
	struct timespec t;

	CHECK(clock_gettime(clock, &t) == 0);
	CHECK(t.tv_nsec >= 0 && t.tv_nsec < 1000000000);
	return ns(t);
}

static int64_t by_call(clockid_t clock)
{
	struct timespec t;

	CHECK(syscall(SYS_clock_gettime, clock, &t) == 0);
	return ns(t);
}

TEST(monotonic_clocks)
{
	static const clockid_t clocks[] = {CLOCK_MONOTONIC, CLOCK_MONOTONIC_RAW, CLOCK_BOOTTIME,
					   CLOCK_MONOTONIC_COARSE};

	for (size_t c = 0; c < ARRAY_LEN(clocks); c++) {
		int64_t last = by_vdso(clocks[c]);
		for (int i = 0; i < 100000; i++) {
			int64_t t = by_vdso(clocks[c]);
			CHECK(t >= last);
			last = t;
		}
	}
}

TEST(vdso_and_system_call_agree)
{
	static const clockid_t clocks[] = {CLOCK_MONOTONIC, CLOCK_REALTIME, CLOCK_BOOTTIME, CLOCK_MONOTONIC_RAW,
					   CLOCK_TAI};

	for (size_t c = 0; c < ARRAY_LEN(clocks); c++) {
		for (int i = 0; i < 500; i++) {
			int64_t a = by_vdso(clocks[c]), b = by_call(clocks[c]), d = by_vdso(clocks[c]);
			CHECK(a <= b && b <= d);
		}
	}
	struct timeval tv;
	for (int i = 0; i < 100; i++) {
		int64_t before = by_call(CLOCK_REALTIME);
		CHECK(gettimeofday(&tv, NULL) == 0);
		int64_t t = (int64_t)tv.tv_sec * 1000000000 + tv.tv_usec * 1000;
		CHECK(t >= before - 1000 && t <= by_call(CLOCK_REALTIME));
	}
	CHECK(time(NULL) > 1600000000);
}

static _Atomic int64_t shared_last;

static void *never_back(void *arg)
{
	(void)arg;
	for (int i = 0; i < 50000; i++) {
		int64_t last = shared_last, t = by_vdso(CLOCK_MONOTONIC);
		CHECK(t >= last);
		shared_last = t;
	}
	return NULL;
}

TEST(monotonic_across_threads)
{
	pthread_t t[4];

	for (int i = 0; i < 4; i++)
		CHECK(pthread_create(&t[i], NULL, never_back, NULL) == 0);
	for (int i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
}

TEST(tsc_goes_forward)
{
	uint64_t last = __builtin_ia32_rdtsc(), first = last;
	int64_t start = by_vdso(CLOCK_MONOTONIC_RAW);
	unsigned int aux;

	for (int i = 0; i < 200000; i++) {
		uint64_t t = i % 2 ? __builtin_ia32_rdtsc() : __builtin_ia32_rdtscp(&aux);
		CHECK(t >= last);
		last = t;
	}
	CHECK(last > first && by_vdso(CLOCK_MONOTONIC_RAW) > start);
}

TEST(resolutions)
{
	struct timespec t;

	CHECK(clock_getres(CLOCK_MONOTONIC, &t) == 0);
	CHECK_EQ(ns(t), 1);
	CHECK(clock_gettime(1000, &t) == -1 && errno == EINVAL);
	CHECK(syscall(SYS_clock_gettime, CLOCK_MONOTONIC, 8) == -1 && errno == EFAULT);
}

TEST(sleeps)
{
	static const long us[] = {0, 1, 50, 1000, 5000, 20000, 100000, 300000};

	for (size_t i = 0; i < ARRAY_LEN(us); i++) {
		int64_t start = by_vdso(CLOCK_MONOTONIC);
		struct timespec t = {.tv_nsec = us[i] * 1000};
		CHECK(nanosleep(&t, NULL) == 0);
		int64_t took = by_vdso(CLOCK_MONOTONIC) - start;
		CHECK(took >= us[i] * 1000);
		CHECK(took < us[i] * 1000 + (int64_t)(LATE * 1e9));
	}
	struct timespec until;
	clock_gettime(CLOCK_MONOTONIC, &until);
	for (int i = 0; i < 20; i++) {
		until.tv_nsec += 10000000;
		if (until.tv_nsec >= 1000000000) {
			until.tv_nsec -= 1000000000;
			until.tv_sec++;
		}
		CHECK(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == 0);
		CHECK(by_vdso(CLOCK_MONOTONIC) >= ns(until));
	}
}

TEST(poll_timeouts)
{
	int fd[2], ep = epoll_create1(0);
	struct epoll_event ev;

	CHECK(pipe(fd) == 0 && ep >= 0);
	struct pollfd p = {.fd = fd[0], .events = POLLIN};
	for (int ms = 1; ms <= 64; ms *= 4) {
		double start = now();
		CHECK_EQ(poll(&p, 1, ms), 0);
		CHECK(now() - start >= ms / 1e3 && now() - start < ms / 1e3 + LATE);
		start = now();
		CHECK_EQ(epoll_wait(ep, &ev, 1, ms), 0);
		CHECK(now() - start >= ms / 1e3 - 0.001);
		start = now();
		struct timeval tv = {0, ms * 1000};
		CHECK_EQ(select(0, NULL, NULL, NULL, &tv), 0);
		CHECK(now() - start >= ms / 1e3);
	}
}

TEST(timerfd)
{
	uint64_t n, total = 0;
	int fd = timerfd_create(CLOCK_MONOTONIC, 0);
	struct itimerspec it = {{0, 10000000}, {0, 10000000}};

	CHECK(fd >= 0 && timerfd_settime(fd, 0, &it, NULL) == 0);
	double start = now();
	while (total < 50) {
		CHECK_EQ(read(fd, &n, sizeof(n)), sizeof(n));
		CHECK(n >= 1);
		total += n;
	}
	double took = now() - start;
	CHECK(took >= (double)(total - 1) * 0.01 - 0.001);
	CHECK(took <= (double)total * 0.01 + LATE);
}

static volatile sig_atomic_t ticks;

static void tick(int sig)
{
	(void)sig;
	ticks++;
}

TEST(interval_timer)
{
	struct itimerval it = {{0, 10000}, {0, 10000}};

	signal(SIGALRM, tick);
	CHECK(setitimer(ITIMER_REAL, &it, NULL) == 0);
	double start = now();
	volatile unsigned long spin = 0;
	while (ticks < 50 && now() - start < 20)
		spin++; /* busy: the tick has to interrupt user code */
	CHECK(ticks >= 50);
	CHECK(now() - start >= 0.49);
	it = (struct itimerval){0};
	CHECK(setitimer(ITIMER_REAL, &it, NULL) == 0);
	int n = ticks;
	sleep_ms(50);
	CHECK_EQ(ticks, n);
	start = now();
	alarm(1);
	pause();
	CHECK(now() - start >= 0.99 && now() - start < 1 + LATE);
}

TEST(posix_timers)
{
	timer_t timers[10];
	struct sigevent ev = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN};

	signal(SIGRTMIN, tick);
	for (size_t i = 0; i < ARRAY_LEN(timers); i++) {
		struct itimerspec it = {.it_value = {0, 5000000 * (long)(i + 1)}};
		CHECK(timer_create(CLOCK_MONOTONIC, &ev, &timers[i]) == 0);
		CHECK(timer_settime(timers[i], 0, &it, NULL) == 0);
	}
	double start = now();
	while (ticks < 10 && now() - start < 10)
		sleep_ms(5);
	CHECK_EQ(ticks, 10);
	for (size_t i = 0; i < ARRAY_LEN(timers); i++)
		CHECK(timer_delete(timers[i]) == 0);
}

TEST(processor_time)
{
	struct rusage before, after;
	struct timespec t0, t1;

	getrusage(RUSAGE_SELF, &before);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t0);
	double start = now();
	volatile unsigned long spin = 0;
	while (now() - start < 1)
		spin++;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t1);
	getrusage(RUSAGE_SELF, &after);
	double used = (double)(ns(t1) - ns(t0)) / 1e9;
	CHECK(used > 0.05 && used < 1.5);
	double user = (double)(after.ru_utime.tv_sec - before.ru_utime.tv_sec) +
		      (double)(after.ru_utime.tv_usec - before.ru_utime.tv_usec) / 1e6;
	CHECK(user <= used + 0.1);
	/* a sleep uses none */
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t0);
	sleep_ms(300);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t1);
	CHECK(ns(t1) - ns(t0) < 200000000);
}

TEST(time_is_shared_fairly)
{
	/* Two spinning processes on one processor both get on. */
	volatile unsigned long *spin = map_shared(PAGE);
	pid_t pid[2];
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(0, &set);
	CHECK(sched_setaffinity(0, sizeof(set), &set) == 0);
	for (int i = 0; i < 2; i++) {
		pid[i] = fork_ok();
		if (pid[i] == 0)
			for (;;)
				spin[i * 64]++;
	}
	sleep_ms(2000);
	unsigned long a = spin[0], b = spin[64];
	for (int i = 0; i < 2; i++) {
		kill(pid[i], SIGKILL);
		waitpid(pid[i], NULL, 0);
	}
	CHECK(a > 0 && b > 0);
	CHECK(a / b < 4 && b / a < 4);
}

int main(int argc, char **argv)
{
	return run_tests(argc, argv);
}
