// SPDX-License-Identifier: BSD-2-Clause
//
// host-primitives [--cpus A,B] [--distance] [MS]: what the host takes for the steps that LoL is made of: the floor of every figure in
// docs/performance.md. Prints a table in Markdown: the median, the least and the greatest of nine batches of at least MS ms
// (default 20), in nanoseconds. A and B are the CPUs of the hand-overs (default: the first two of this process).
// --distance: only the median of a hand-over and back between the two, a number.
//
//   gcc -O2 -D_GNU_SOURCE -pthread -o host-primitives bench/host-primitives.c && ./host-primitives

#include <errno.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#define BATCHES 9
#define PAGE 4096UL
#define RAM_PAGES 16384UL // of the memory file that stands for guest RAM
#define NR_TRAPPED 5000   // a system call number that the filter traps

static int cpus[2];
static int ram;    // memfd
static char *hole; // addresses of our own with nothing mapped, RAM_PAGES long

static _Noreturn void die(const char *what)
{
	fprintf(stderr, "host-primitives: %s: %s\n", what, strerror(errno));
	exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static void pin(int cpu)
{
	cpu_set_t set;
	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof set, &set))
		die("sched_setaffinity");
}

// ---- system calls and signals ----

static uint64_t run_getppid(uint64_t n)
{
	uint64_t start = now_ns();
	for (uint64_t i = 0; i < n; i++)
		syscall(SYS_getppid);
	return now_ns() - start;
}

volatile uint64_t caught; // also written by return_by_iretq

static void on_sigsys(int signal, siginfo_t *info, void *context)
{
	(void)signal, (void)info;
	((ucontext_t *)context)->uc_mcontext.gregs[REG_RAX] = 0;
	caught++;
}

// A filter as U's have: one number traps, the rest is allowed. It stays for the rest of this process, so this row is the last.
static uint64_t run_sigsys(uint64_t n)
{
	static int installed;
	if (!installed) {
		struct sock_filter code[] = {
			BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
			BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, NR_TRAPPED, 0, 1),
			BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
			BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
		};
		struct sock_fprog program = {sizeof code / sizeof code[0], code};
		struct sigaction action = {.sa_sigaction = on_sigsys, .sa_flags = SA_SIGINFO | SA_NODEFER};
		sigaction(SIGSYS, &action, NULL);
		if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
			die("seccomp");
		installed = 1;
	}
	uint64_t start = now_ns();
	caught = 0;
	for (uint64_t i = 0; i < n; i++)
		syscall(NR_TRAPPED);
	uint64_t took = now_ns() - start;
	if (caught != n)
		die("SIGSYS was lost");
	return took;
}

// One access to an address where nothing is. The handler goes on behind it.
void touch_nothing(void *address);
extern char touch_resume[];
void return_by_iretq(int signal, siginfo_t *info, void *context);
__asm__(".text\n"
	".globl touch_nothing, touch_resume, return_by_iretq\n"
	"touch_nothing:\n"
	"	movb (%rdi), %al\n"
	"touch_resume:\n"
	"	ret\n"
	// rdx: ucontext. Vector state by xrstor, registers one by one, rip, flags and rsp by iretq. Offsets are the kernel's ABI.
	"return_by_iretq:\n"
	"	mov %rdx, %r8\n"
	"	mov 224(%r8), %rdi\n"
	"	mov $-1, %eax\n"
	"	mov $-1, %edx\n"
	"	xrstor64 (%rdi)\n"
	"	mov %ss, %ecx\n"
	"	push %rcx\n"
	"	pushq 160(%r8)\n"
	"	pushq 176(%r8)\n"
	"	mov %cs, %ecx\n"
	"	push %rcx\n"
	"	lea touch_resume(%rip), %rcx\n"
	"	push %rcx\n"
	"	incq caught(%rip)\n"
	"	mov 48(%r8), %r9\n"
	"	mov 56(%r8), %r10\n"
	"	mov 64(%r8), %r11\n"
	"	mov 72(%r8), %r12\n"
	"	mov 80(%r8), %r13\n"
	"	mov 88(%r8), %r14\n"
	"	mov 96(%r8), %r15\n"
	"	mov 104(%r8), %rdi\n"
	"	mov 112(%r8), %rsi\n"
	"	mov 120(%r8), %rbp\n"
	"	mov 128(%r8), %rbx\n"
	"	mov 136(%r8), %rdx\n"
	"	mov 144(%r8), %rax\n"
	"	mov 152(%r8), %rcx\n"
	"	mov 40(%r8), %r8\n"
	"	iretq\n");

static void on_sigsegv(int signal, siginfo_t *info, void *context)
{
	(void)signal, (void)info;
	((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP] = (greg_t)touch_resume;
	caught++;
}

static uint64_t faults(uint64_t n, void (*handler)(int, siginfo_t *, void *))
{
	static char stack[65536] __attribute__((aligned(64)));
	stack_t alternate = {.ss_sp = stack, .ss_size = sizeof stack};
	struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK}, old;
	sigaltstack(&alternate, NULL);
	sigaction(SIGSEGV, &action, &old);
	caught = 0;
	uint64_t start = now_ns();
	for (uint64_t i = 0; i < n; i++)
		touch_nothing(hole);
	uint64_t took = now_ns() - start;
	sigaction(SIGSEGV, &old, NULL);
	if (caught != n)
		die("SIGSEGV was lost");
	return took;
}

static uint64_t run_sigsegv(uint64_t n)
{
	return faults(n, on_sigsegv);
}

static uint64_t run_sigsegv_iretq(uint64_t n)
{
	return faults(n, return_by_iretq);
}

// ---- hand-overs between two processes, there and back ----

enum how { SPIN, FUTEX, YIELD };

static struct shared {
	_Alignas(128) _Atomic uint32_t turn;
	_Alignas(128) char end;
} * shared;

static void wait_for(uint32_t value, enum how how)
{
	uint32_t seen;
	while ((seen = atomic_load_explicit(&shared->turn, memory_order_acquire)) != value) {
		if (how == FUTEX)
			syscall(SYS_futex, &shared->turn, FUTEX_WAIT, seen, NULL, NULL, 0);
		else if (how == YIELD)
			sched_yield();
	}
}

static void give(uint32_t value, enum how how)
{
	atomic_store_explicit(&shared->turn, value, memory_order_release);
	if (how == FUTEX)
		syscall(SYS_futex, &shared->turn, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static uint64_t hand_over(uint64_t n, enum how how, int other_cpu)
{
	shared->turn = 0;
	pid_t child = fork();
	if (child < 0)
		die("fork");
	if (!child) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		pin(other_cpu);
		for (uint64_t i = 0; i < n + 1; i++) {
			wait_for(1, how);
			give(0, how);
		}
		_exit(0);
	}
	uint64_t start = 0;
	for (uint64_t i = 0; i < n + 1; i++) {
		give(1, how);
		wait_for(0, how);
		if (!i) // the child is there
			start = now_ns();
	}
	uint64_t took = now_ns() - start;
	waitpid(child, NULL, 0);
	return took;
}

static uint64_t run_spin(uint64_t n)
{
	return hand_over(n, SPIN, cpus[1]);
}

static uint64_t run_futex_same(uint64_t n)
{
	return hand_over(n, FUTEX, cpus[0]);
}

static uint64_t run_futex_two(uint64_t n)
{
	return hand_over(n, FUTEX, cpus[1]);
}

static uint64_t run_yield(uint64_t n)
{
	return hand_over(n, YIELD, cpus[0]);
}

// ---- mappings of guest RAM ----

enum timed { MAP, UNMAP, PROTECT, TOUCH };

// N mappings of RUN pages each, every second RUN so that they stay apart; times one of the steps.
static uint64_t mappings(uint64_t n, uint64_t run, int populate, enum timed timed)
{
	uint64_t took = 0, fit = RAM_PAGES / (2 * run);
	for (uint64_t done = 0; done < n;) {
		uint64_t some = n - done < fit ? n - done : fit, t[5];
		t[0] = now_ns();
		for (uint64_t i = 0; i < some; i++)
			if (mmap(hole + 2 * i * run * PAGE, run * PAGE, PROT_READ | PROT_WRITE,
				 MAP_SHARED | MAP_FIXED | populate, ram, (off_t)(2 * i * run * PAGE)) == MAP_FAILED)
				die("mmap");
		t[1] = now_ns();
		if (timed != MAP || !populate)
			for (uint64_t i = 0; i < some; i++)
				*(volatile char *)(hole + 2 * i * run * PAGE) = 1;
		t[2] = now_ns();
		if (timed == PROTECT)
			for (uint64_t i = 0; i < some; i++)
				if (mprotect(hole + 2 * i * run * PAGE, run * PAGE, PROT_NONE))
					die("mprotect");
		t[3] = now_ns();
		for (uint64_t i = 0; i < some; i++)
			if (munmap(hole + 2 * i * run * PAGE, run * PAGE))
				die("munmap");
		t[4] = now_ns();
		took += timed == MAP       ? t[1] - t[0]
			: timed == TOUCH   ? t[2] - t[1]
			: timed == PROTECT ? t[3] - t[2]
					   : t[4] - t[3];
		done += some;
	}
	return took;
}

static uint64_t run_mmap(uint64_t n)
{
	return mappings(n, 1, 0, MAP);
}

static uint64_t run_mmap_populate(uint64_t n)
{
	return mappings(n, 1, MAP_POPULATE, MAP);
}

static uint64_t run_mmap_64k(uint64_t n)
{
	return mappings(n, 16, MAP_POPULATE, MAP);
}

static uint64_t run_mmap_2m(uint64_t n)
{
	return mappings(n, 512, MAP_POPULATE, MAP);
}

static uint64_t run_touch(uint64_t n)
{
	return mappings(n, 1, 0, TOUCH);
}

static uint64_t run_munmap(uint64_t n)
{
	return mappings(n, 1, 0, UNMAP);
}

static uint64_t run_mprotect(uint64_t n)
{
	return mappings(n, 1, 0, PROTECT);
}

// ---- memory that this host has not used for some time ----

#define PIECE (512 * PAGE)

// BYTES at the start of a piece, which nobody gives back before the end: what is free for a second may be the hypervisor's by then.
static char *pieces_of(uint64_t bytes, int advice)
{
	char *at = mmap(NULL, bytes + PIECE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (at == MAP_FAILED)
		die("mmap");
	at += -(uintptr_t)at & (PIECE - 1);
	madvise(at, bytes, advice);
	return at;
}

static uint64_t first_use(uint64_t n, int advice)
{
	char *at = pieces_of(n * PIECE, advice);
	uint64_t start = now_ns();
	for (uint64_t i = 0; i < n * PIECE; i += PAGE)
		at[i] = 1;
	return now_ns() - start;
}

static uint64_t run_first_use(uint64_t n)
{
	static int rested;
	if (!rested++)
		sleep(4); // for what this process has freed itself
	return first_use(n, MADV_HUGEPAGE);
}

static uint64_t run_first_use_small(uint64_t n)
{
	return first_use(n, MADV_NOHUGEPAGE);
}

// ---- memory that one side clears and the other uses ----

#define CLEARED (32UL << 20) // bytes, used in turns: more than caches of the second level hold

static char *cleared;

static void clear(uint64_t i)
{
	char *at = cleared + i * PIECE % CLEARED;
	uint64_t n = PIECE;
	__asm__ volatile("rep stosb" : "+D"(at), "+c"(n) : "a"(0) : "memory");
}

static void *clear_for_other(void *pieces)
{
	pin(cpus[1]);
	for (uint64_t i = 0; i < *(uint64_t *)pieces; i++) {
		wait_for(1, SPIN);
		clear(i);
		give(0, SPIN);
	}
	return NULL;
}

// N pieces of 2 MiB cleared, here or on the other CPU, and a word of each of their pages changed here.
static uint64_t clear_and_touch(uint64_t n, int elsewhere)
{
	pthread_t thread;
	uint64_t pieces = n + 1, start = 0; // the first one is warm-up
	if (!cleared) {
		cleared = pieces_of(CLEARED, MADV_HUGEPAGE);
		memset(cleared, 1, CLEARED);
	}
	shared->turn = 0;
	if (elsewhere && (errno = pthread_create(&thread, NULL, clear_for_other, &pieces)))
		die("pthread_create");
	for (uint64_t i = 0; i < pieces; i++) {
		if (elsewhere) {
			give(1, SPIN);
			wait_for(0, SPIN);
		} else {
			clear(i);
		}
		for (uint64_t at = i * PIECE % CLEARED, end = at + PIECE; at < end; at += PAGE)
			((volatile char *)cleared)[at]++;
		if (!i)
			start = now_ns();
	}
	uint64_t took = now_ns() - start;
	if (elsewhere)
		pthread_join(thread, NULL);
	return took;
}

static uint64_t run_clear(uint64_t n)
{
	return clear_and_touch(n, 0);
}

static uint64_t run_clear_elsewhere(uint64_t n)
{
	return clear_and_touch(n, 1);
}

static uint64_t run_fork(uint64_t n)
{
	uint64_t start = now_ns();
	for (uint64_t i = 0; i < n; i++) {
		pid_t child = fork();
		if (!child)
			_exit(0);
		if (child < 0 || waitpid(child, NULL, 0) != child)
			die("fork");
	}
	return now_ns() - start;
}

static const struct row {
	const char *name;
	uint64_t (*run)(uint64_t n);
	uint64_t least;
	int needs_two; // CPUs
	uint64_t most; // 0: as many as MS are long
} rows[] = {
	{"system call (getppid)", run_getppid, 1000, 0, 0},
	{"hand-over and back, spinning on two CPUs", run_spin, 1000, 1, 0},
	{"same, sched_yield on one CPU", run_yield, 200, 0, 0},
	{"same, futex on one CPU", run_futex_same, 200, 0, 0},
	{"same, futex on two CPUs", run_futex_two, 200, 1, 0},
	{"SIGSEGV in, sigreturn out", run_sigsegv, 200, 0, 0},
	{"SIGSEGV in, xrstor and iretq out", run_sigsegv_iretq, 200, 0, 0},
	{"mmap of one page of guest RAM", run_mmap, 1000, 0, 0},
	{"same, populated", run_mmap_populate, 1000, 0, 0},
	{"mmap of 64 KiB, populated", run_mmap_64k, 100, 0, 0},
	{"mmap of 2 MiB, populated", run_mmap_2m, 16, 0, 0},
	{"first touch of a mapped page", run_touch, 1000, 0, 0},
	{"munmap of one page", run_munmap, 1000, 0, 0},
	{"mprotect of one page to none", run_mprotect, 1000, 0, 0},
	{"fork, exit, wait of this small process", run_fork, 10, 0, 0},
	{"first use of 2 MiB, in one piece", run_first_use, 8, 0, 8},
	{"same, in pages of 4 KiB", run_first_use_small, 8, 0, 8},
	{"2 MiB cleared, a word of each page changed", run_clear, 16, 0, 0},
	{"same, cleared on the other CPU", run_clear_elsewhere, 16, 1, 0},
	{"seccomp trap: SIGSYS in, sigreturn out", run_sigsys, 200, 0, 0},
};

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static void measure(const struct row *row, uint64_t ms, double ns[BATCHES])
{
	uint64_t n = row->least;
	while (row->run(n) < ms * 1000000 && n != row->most)
		n *= 2;
	for (int i = 0; i < BATCHES; i++)
		ns[i] = (double)row->run(n) / (double)n;
	qsort(ns, BATCHES, sizeof ns[0], compare);
}

int main(int argc, char **argv)
{
	cpu_set_t set;
	int found = 0, distance = 0;
	uint64_t ms;
	sched_getaffinity(0, sizeof set, &set);
	for (int cpu = 0; cpu < CPU_SETSIZE && found < 2; cpu++)
		if (CPU_ISSET(cpu, &set))
			cpus[found++] = cpu;
	if (argc > 2 && !strcmp(argv[1], "--cpus")) {
		if (sscanf(argv[2], "%d,%d", &cpus[0], &cpus[1]) != 2)
			found = 0;
		else
			found = 2;
		argc -= 2;
		argv += 2;
	}
	if (argc > 1 && !strcmp(argv[1], "--distance")) {
		distance = 1;
		argc--;
		argv++;
	}
	ms = argc > 1 ? strtoul(argv[1], NULL, 10) : 20;
	if (!found || argc > 2 || !ms || (distance && (found < 2 || cpus[0] == cpus[1]))) {
		fprintf(stderr, "usage: host-primitives [--cpus A,B] [--distance] [MS]\n");
		return 125;
	}
	pin(cpus[0]);
	double ns[BATCHES];
	shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		die("mmap");
	if (distance) {
		measure(&(struct row){.run = run_spin, .least = 1000}, ms, ns);
		printf("%.0f\n", ns[BATCHES / 2]);
		return 0;
	}
	ram = memfd_create("ram", 0);
	if (ram < 0 || ftruncate(ram, RAM_PAGES * PAGE))
		die("memfd_create");
	char *all = mmap(NULL, RAM_PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, ram, 0);
	hole = mmap(NULL, RAM_PAGES * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (all == MAP_FAILED || hole == MAP_FAILED)
		die("mmap");
	memset(all, 1, RAM_PAGES * PAGE);
	munmap(all, RAM_PAGES * PAGE);
	munmap(hole, RAM_PAGES * PAGE);
	puts("| step of the host | ns, median | least | greatest |\n|---|---|---|---|");
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		if (rows[i].needs_two && (found < 2 || cpus[0] == cpus[1]))
			continue;
		measure(&rows[i], ms, ns);
		printf("| %s | %.0f | %.0f | %.0f |\n", rows[i].name, ns[BATCHES / 2], ns[0], ns[BATCHES - 1]);
		fflush(stdout);
	}
	return 0;
}
