// SPDX-License-Identifier: BSD-2-Clause
/* Threads: futexes of all kinds, thread-local storage, FS and GS bases, robust lists, affinity, much coming and going. */
#include "guest-test.h"

#include <asm/prctl.h>
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/auxv.h>

#define THREADS 8

static long counter;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static long futex(uint32_t *word, int op, uint32_t value, const struct timespec *timeout)
{
	return syscall(SYS_futex, word, op, value, timeout, NULL, 0);
}

static void *add_locked(void *arg)
{
	for (int i = 0; i < 5000; i++) {
		pthread_mutex_lock(&lock);
		counter++;
		if (i % 64 == 0 && arg)
			sched_yield();
		pthread_mutex_unlock(&lock);
	}
	return NULL;
}

static void run_threads(void *(*body)(void *), int n)
{
	pthread_t t[64];

	for (long i = 0; i < n; i++)
		CHECK(pthread_create(&t[i], NULL, body, (void *)i) == 0);
	for (int i = 0; i < n; i++)
		CHECK(pthread_join(t[i], NULL) == 0);
}

TEST(mutex)
{
	run_threads(add_locked, THREADS);
	CHECK_EQ(counter, THREADS * 5000);
}

static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static int turn;

static void *take_turns(void *arg)
{
	int me = (int)(long)arg;

	for (int i = 0; i < 200; i++) {
		pthread_mutex_lock(&lock);
		while (turn != me)
			pthread_cond_wait(&cond, &lock);
		turn = (turn + 1) % THREADS;
		counter++;
		pthread_cond_broadcast(&cond);
		pthread_mutex_unlock(&lock);
	}
	return NULL;
}

TEST(condition)
{
	run_threads(take_turns, THREADS);
	CHECK_EQ(counter, THREADS * 200);
}

static pthread_barrier_t barrier;
static int phase[THREADS];

static void *phases(void *arg)
{
	for (int i = 1; i <= 100; i++) {
		phase[(long)arg] = i;
		pthread_barrier_wait(&barrier);
		for (int j = 0; j < THREADS; j++)
			CHECK(phase[j] == i);
		pthread_barrier_wait(&barrier);
	}
	return NULL;
}

TEST(barrier)
{
	pthread_barrier_init(&barrier, NULL, THREADS);
	run_threads(phases, THREADS);
}

static _Atomic long spins;

static void *atomic_adds(void *arg)
{
	(void)arg;
	for (int i = 0; i < 200000; i++)
		spins++;
	return NULL;
}

TEST(atomics)
{
	run_threads(atomic_adds, THREADS);
	CHECK_EQ(spins, THREADS * 200000);
}

static __thread int tls_value = 41;
static __thread char tls_big[5000];

static void *use_tls(void *arg)
{
	int me = (int)(long)arg;

	CHECK_EQ(tls_value, 41);
	tls_value = me;
	memset(tls_big, me, sizeof(tls_big));
	for (int i = 0; i < 200; i++) {
		sched_yield();
		CHECK_EQ(tls_value, me);
		CHECK_EQ(tls_big[i * 24], me);
	}
	errno = me;
	usleep(1000);
	CHECK_EQ(errno, me);
	return NULL;
}

TEST(thread_local_storage)
{
	run_threads(use_tls, THREADS);
	CHECK_EQ(tls_value, 41);
}

TEST(threads_come_and_go)
{
	for (int i = 0; i < 100; i++)
		run_threads(use_tls, 4);
}

/* ---- segment bases ---- */

static unsigned long read_gs(unsigned long at)
{
	unsigned long v;

	asm volatile("mov %%gs:(%1), %0" : "=r"(v) : "r"(at));
	return v;
}

static void *own_gs(void *arg)
{
	unsigned long cell[4] = {(unsigned long)arg + 1000, 0, 0, 0}, base;

	CHECK(syscall(SYS_arch_prctl, ARCH_SET_GS, cell) == 0);
	for (int i = 0; i < 300; i++) {
		CHECK_EQ(read_gs(0), (unsigned long)arg + 1000);
		sched_yield();
		if (i % 50 == 0)
			usleep(200);
	}
	CHECK(syscall(SYS_arch_prctl, ARCH_GET_GS, &base) == 0);
	CHECK_EQ(base, (unsigned long)cell);
	return NULL;
}

TEST(gs_base_by_prctl)
{
	run_threads(own_gs, THREADS);
}

TEST(bases_by_instruction)
{
	unsigned long base, cell[2] = {77, 78}, saved;

	if (!(getauxval(AT_HWCAP2) & 2)) /* HWCAP2_FSGSBASE */
		SKIP("no FSGSBASE for user programs");
	asm volatile("wrgsbase %0" : : "r"(cell));
	CHECK_EQ(read_gs(8), 78);
	usleep(1000);
	asm volatile("rdgsbase %0" : "=r"(base));
	CHECK_EQ(base, (unsigned long)cell);
	CHECK(syscall(SYS_arch_prctl, ARCH_GET_GS, &base) == 0);
	CHECK_EQ(base, (unsigned long)cell);
	asm volatile("rdfsbase %0" : "=r"(saved));
	CHECK(syscall(SYS_arch_prctl, ARCH_GET_FS, &base) == 0);
	CHECK_EQ(base, saved);
	for (int i = 0; i < 50; i++) {
		unsigned long got;
		asm volatile("wrfsbase %2\n\tmov $24, %%eax\n\tsyscall\n\trdfsbase %0\n\twrfsbase %1"
			     : "=&r"(got)
			     : "r"(saved), "r"(cell)
			     : "rax", "rcx", "r11", "memory");
		CHECK_EQ(got, (unsigned long)cell);
	}
	/* a child has it too */
	pid_t pid = fork_ok();
	if (pid == 0) {
		CHECK_EQ(read_gs(0), 77);
		_exit(0);
	}
	wait_ok(pid);
}

TEST(bad_bases)
{
	CHECK(syscall(SYS_arch_prctl, ARCH_SET_GS, 0xffff800000000000) == -1 && errno == EPERM);
	CHECK(syscall(SYS_arch_prctl, ARCH_SET_FS, 0x0000800000000000) == -1 && errno == EPERM);
	CHECK(syscall(SYS_arch_prctl, ARCH_GET_FS, 8) == -1 && errno == EFAULT);
}

TEST(selectors)
{
	unsigned short v;
	unsigned long cell = 99;

	CHECK(syscall(SYS_arch_prctl, ARCH_SET_GS, &cell) == 0);
	asm volatile("mov %%cs, %0" : "=r"(v));
	CHECK_EQ(v & 3, 3);
	asm volatile("mov %%ss, %0" : "=r"(v));
	CHECK_EQ(v & 3, 3);
	/* a null selector in gs may or may not clear the base; the program must live */
	asm volatile("mov %0, %%gs" : : "r"(0));
	usleep(1000);
	asm volatile("mov %%gs, %0" : "=r"(v));
	CHECK_EQ(v & ~3, 0);
	asm volatile("mov %0, %%ds\n\tmov %0, %%es" : : "r"(0));
	usleep(1000);
	asm volatile("mov %%ds, %0" : "=r"(v));
	CHECK_EQ(v & ~3, 0);
}

/* ---- futexes ---- */

TEST(futex_basics)
{
	uint32_t word = 5;
	struct timespec t = {.tv_nsec = 20000000};
	double start = now();

	CHECK(futex(&word, FUTEX_WAIT, 4, NULL) == -1 && errno == EAGAIN);
	CHECK(futex(&word, FUTEX_WAIT, 5, &t) == -1 && errno == ETIMEDOUT);
	CHECK(now() - start >= 0.0199);
	CHECK_EQ(futex(&word, FUTEX_WAKE, 1, NULL), 0);
	CHECK(futex((uint32_t *)8, FUTEX_WAIT, 0, &t) == -1 && errno == EFAULT);
	CHECK(futex((uint32_t *)((char *)&word + 1), FUTEX_WAIT, 0, &t) == -1 && errno == EINVAL);
	CHECK(futex((uint32_t *)0xffff888000000000, FUTEX_WAIT, 0, &t) == -1 && errno == EFAULT);
}

TEST(futex_between_processes)
{
	uint32_t *word = map_shared(PAGE);

	pid_t pid = fork_ok();
	if (pid == 0) {
		for (uint32_t i = 0; i < 1000; i++) {
			while (__atomic_load_n(word, __ATOMIC_SEQ_CST) != 2 * i + 1)
				futex(word, FUTEX_WAIT, 2 * i, NULL);
			__atomic_store_n(word, 2 * i + 2, __ATOMIC_SEQ_CST);
			futex(word, FUTEX_WAKE, 1, NULL);
		}
		_exit(0);
	}
	for (uint32_t i = 0; i < 1000; i++) {
		__atomic_store_n(word, 2 * i + 1, __ATOMIC_SEQ_CST);
		futex(word, FUTEX_WAKE, 1, NULL);
		while (__atomic_load_n(word, __ATOMIC_SEQ_CST) != 2 * i + 2)
			futex(word, FUTEX_WAIT, 2 * i + 1, NULL);
	}
	wait_ok(pid);
}

TEST(futex_wake_op)
{
	/* FUTEX_WAKE_OP makes the kernel do an atomic operation on user memory, through every operation. */
	static uint32_t a, b;
	static const struct {
		int op;
		uint32_t before, arg, after;
	} ops[] = {
		{FUTEX_OP_SET, 7, 99, 99}, {FUTEX_OP_ADD, 7, 5, 12},  {FUTEX_OP_OR, 8, 3, 11},
		{FUTEX_OP_ANDN, 15, 6, 9}, {FUTEX_OP_XOR, 10, 6, 12},
	};

	for (size_t i = 0; i < ARRAY_LEN(ops); i++) {
		b = ops[i].before;
		long n = syscall(SYS_futex, &a, FUTEX_WAKE_OP, 1, 1, &b,
				 FUTEX_OP(ops[i].op, ops[i].arg, FUTEX_OP_CMP_EQ, 0));
		CHECK_EQ(n, 0);
		CHECK_EQ(b, ops[i].after);
	}
	CHECK(syscall(SYS_futex, &a, FUTEX_WAKE_OP, 1, 1, 16, FUTEX_OP(FUTEX_OP_SET, 1, FUTEX_OP_CMP_EQ, 0)) == -1 &&
	      errno == EFAULT);
}

static pthread_mutex_t *robust;

static void *die_holding(void *arg)
{
	(void)arg;
	pthread_mutex_lock(robust);
	return NULL;
}

TEST(robust_and_priority_mutexes)
{
	pthread_mutexattr_t attr;

	robust = map_shared(PAGE);
	pthread_mutexattr_init(&attr);
	pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
	pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
	pthread_mutex_init(robust, &attr);
	run_threads(die_holding, 1);
	CHECK_EQ(pthread_mutex_lock(robust), EOWNERDEAD);
	CHECK_EQ(pthread_mutex_consistent(robust), 0);
	pthread_mutex_unlock(robust);
	pid_t pid = fork_ok();
	if (pid == 0) {
		pthread_mutex_lock(robust);
		raise(SIGKILL);
	}
	waitpid(pid, NULL, 0);
	CHECK_EQ(pthread_mutex_lock(robust), EOWNERDEAD);
	CHECK_EQ(pthread_mutex_consistent(robust), 0);
	pthread_mutex_unlock(robust);

	pthread_mutexattr_init(&attr);
	if (pthread_mutexattr_setprotocol(&attr, PTHREAD_PRIO_INHERIT) == 0) {
		pthread_mutex_init(&lock, &attr);
		counter = 0;
		run_threads(add_locked, 4);
		CHECK_EQ(counter, 4 * 5000);
	}
}

static sem_t sem_a, sem_b;

static void *answer(void *arg)
{
	(void)arg;
	for (int i = 0; i < 2000; i++) {
		sem_wait(&sem_a);
		counter++;
		sem_post(&sem_b);
	}
	return NULL;
}

TEST(semaphore_ping_pong)
{
	pthread_t t;

	sem_init(&sem_a, 0, 0);
	sem_init(&sem_b, 0, 0);
	CHECK(pthread_create(&t, NULL, answer, NULL) == 0);
	for (int i = 0; i < 2000; i++) {
		sem_post(&sem_a);
		sem_wait(&sem_b);
		CHECK_EQ(counter, i + 1);
	}
	pthread_join(t, NULL);
}

/* ---- the rest ---- */

static void *sleeper(void *arg)
{
	(void)arg;
	for (;;)
		pause();
	return NULL;
}

TEST(exit_and_exec_end_all_threads)
{
	for (int i = 0; i < 10; i++) {
		int st;
		pid_t pid = fork_ok();
		if (pid == 0) {
			pthread_t t;
			for (int j = 0; j < 5; j++)
				CHECK(pthread_create(&t, NULL, sleeper, NULL) == 0);
			if (i % 2)
				exit(3);
			execl("/proc/self/exe", "thread", "--exit", NULL);
			_exit(255);
		}
		CHECK_EQ(waitpid(pid, &st, 0), pid);
		CHECK_EQ(WEXITSTATUS(st), 3);
	}
}

static _Atomic int hits;

static void hit(int sig)
{
	(void)sig;
	hits++;
}

static void *wait_for_hits(void *arg)
{
	while (hits < *(int *)arg)
		usleep(500);
	return NULL;
}

TEST(signals_to_threads)
{
	pthread_t t;
	int want = 100;

	signal(SIGUSR1, hit);
	CHECK(pthread_create(&t, NULL, wait_for_hits, &want) == 0);
	for (int i = 0; i < 100000 && hits < want; i++) {
		int before = hits;
		CHECK(pthread_kill(t, SIGUSR1) == 0);
		for (int j = 0; j < 1000 && hits == before; j++)
			usleep(10);
	}
	pthread_join(t, NULL);
	CHECK(hits >= want);
}

TEST(cancel)
{
	for (int i = 0; i < 50; i++) {
		pthread_t t;
		void *result;
		CHECK(pthread_create(&t, NULL, sleeper, NULL) == 0);
		CHECK(pthread_cancel(t) == 0);
		CHECK(pthread_join(t, &result) == 0);
		CHECK(result == PTHREAD_CANCELED);
	}
}

TEST(affinity_and_membarrier)
{
	cpu_set_t set;
	unsigned int cpu, node;

	CHECK(sched_getaffinity(0, sizeof(set), &set) == 0);
	CHECK(CPU_COUNT(&set) >= 1);
	CPU_ZERO(&set);
	CPU_SET(0, &set);
	CHECK(sched_setaffinity(0, sizeof(set), &set) == 0);
	CHECK(syscall(SYS_getcpu, &cpu, &node, NULL) == 0);
	CHECK_EQ(cpu, 0);
	if (syscall(SYS_membarrier, MEMBARRIER_CMD_QUERY, 0, 0) > 0)
		CHECK(syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) == 0 || errno == EINVAL);
}

int main(int argc, char **argv)
{
	if (argc > 1 && strcmp(argv[1], "--exit") == 0)
		return 3;
	return run_tests(argc, argv);
}
