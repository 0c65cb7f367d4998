// SPDX-License-Identifier: BSD-2-Clause
/* Signals: what the processor raises, what comes from outside, what handlers see and change, what is restored. */
#define GUEST_STATE_CODE
#include "state.h"

#include <setjmp.h>
#include <sys/signalfd.h>
#include <sys/time.h>
#include <ucontext.h>

static sigjmp_buf back;
static volatile sig_atomic_t count;
static siginfo_t seen;
static long seen_err, seen_trap, seen_cr2, seen_rip;

static void remember(siginfo_t *si, void *uc)
{
	greg_t *r = ((ucontext_t *)uc)->uc_mcontext.gregs;

	seen = *si;
	seen_err = r[REG_ERR];
	seen_trap = r[REG_TRAPNO];
	seen_cr2 = r[REG_CR2];
	seen_rip = r[REG_RIP];
	count++;
}

static void jump_back(int sig, siginfo_t *si, void *uc)
{
	remember(si, uc);
	siglongjmp(back, sig);
}

/* Run code that must raise sig. */
#define RAISES(sig, code) \
	do { \
		count = 0; \
		if (sigsetjmp(back, 1) == 0) { \
			code; \
			CHECK(!"no signal"); \
		} \
		CHECK_EQ(count, 1); \
		CHECK_EQ(seen.si_signo, sig); \
	} while (0)

enum { ERR_PRESENT = 1, ERR_WRITE = 2, ERR_USER = 4, ERR_EXEC = 16 };

static volatile char *volatile null;

TEST(segv_not_mapped)
{
	on_signal(SIGSEGV, jump_back, 0);
	volatile char *p = map_rw(PAGE);
	munmap((void *)p, PAGE);
	for (int i = 0; i < 20; i++) {
		RAISES(SIGSEGV, (void)p[i]);
		CHECK_EQ(seen.si_code, SEGV_MAPERR);
		CHECK_EQ((long)seen.si_addr, (long)(p + i));
		CHECK_EQ(seen_trap, 14);
		CHECK_EQ(seen_err, ERR_USER);
		CHECK_EQ(seen_cr2, (long)(p + i));
		RAISES(SIGSEGV, p[i] = 1);
		CHECK_EQ(seen_err, ERR_USER | ERR_WRITE);
	}
	RAISES(SIGSEGV, null[5] = 1);
	CHECK_EQ((long)seen.si_addr, 5);
	RAISES(SIGSEGV, ((void (*)(void))(uintptr_t)(p + 7))());
	CHECK_EQ((long)seen.si_addr, (long)(p + 7));
	CHECK_EQ(seen_rip, (long)(p + 7));
	CHECK((seen_err & ~ERR_EXEC) == ERR_USER);
}

TEST(segv_no_right)
{
	on_signal(SIGSEGV, jump_back, 0);
	volatile char *p = map_rw(3 * PAGE);
	p[0] = p[PAGE] = p[2 * PAGE] = (char)0xc3;
	mprotect((void *)p, PAGE, PROT_READ);
	mprotect((void *)(p + PAGE), PAGE, PROT_NONE);
	CHECK_EQ(p[0], (char)0xc3);
	RAISES(SIGSEGV, p[8] = 1);
	CHECK_EQ(seen.si_code, SEGV_ACCERR);
	CHECK_EQ((long)seen.si_addr, (long)(p + 8));
	CHECK_EQ(seen_err, ERR_USER | ERR_WRITE | ERR_PRESENT);
	RAISES(SIGSEGV, (void)p[PAGE]);
	CHECK_EQ(seen.si_code, SEGV_ACCERR);
	RAISES(SIGSEGV, ((void (*)(void))(uintptr_t)(p + 2 * PAGE))());
	CHECK_EQ(seen.si_code, SEGV_ACCERR);
	CHECK_EQ((long)seen.si_addr, (long)(p + 2 * PAGE));
	mprotect((void *)p, 3 * PAGE, PROT_READ | PROT_EXEC);
	((void (*)(void))(uintptr_t)p)();
	((void (*)(void))(uintptr_t)(p + PAGE))();
}

TEST(segv_across_pages)
{
	on_signal(SIGSEGV, jump_back, 0);
	volatile char *p = map_rw(2 * PAGE);
	munmap((void *)(p + PAGE), PAGE);
	RAISES(SIGSEGV, *(volatile uint64_t *)(p + PAGE - 4) = 1);
	CHECK_EQ((long)seen.si_addr, (long)(p + PAGE));
	RAISES(SIGSEGV, (void)*(volatile uint64_t *)(p + PAGE - 1));
	CHECK_EQ((long)seen.si_addr, (long)(p + PAGE));
}

TEST(segv_kernel_and_non_canonical)
{
	static const uint64_t kernel[] = {0xffff800000000000, 0xffff888000000000, 0xffffffff81000000,
					  0xffffffffff5ff000, 0xfffffe0000000000, 0xffffffffffffff00};
	static const uint64_t odd[] = {0x0000800000000000, 0x8000000000000000, 0xfffe000000000000, 0x00ff000000000000};

	static size_t i; /* static: outlives siglongjmp */
	static uint64_t at;

	on_signal(SIGSEGV, jump_back, 0);
	for (i = 0; i < ARRAY_LEN(kernel); i++) {
		volatile char *p = (volatile char *)kernel[i];
		RAISES(SIGSEGV, (void)*p);
		CHECK_EQ((long)seen.si_addr, (long)p);
		RAISES(SIGSEGV, *p = 1);
		RAISES(SIGSEGV, ((void (*)(void))kernel[i])());
		CHECK_EQ(seen_rip, kernel[i]);
	}
	for (i = 0; i < ARRAY_LEN(odd); i++) {
		volatile char *p = (volatile char *)odd[i];
		RAISES(SIGSEGV, (void)*p);
		CHECK_EQ(seen.si_code, SI_KERNEL); /* #GP has no address */
		CHECK_EQ((long)seen.si_addr, 0);
		CHECK_EQ(seen_trap, 13);
		RAISES(SIGSEGV, *p = 1);
		RAISES(SIGSEGV, ((void (*)(void))odd[i])());
	}
	/* The rest of the lower half, where a hosted machine may keep something of its own. */
	for (at = 0x400000000000; at < 0x7fffffff0000; at += 0x3fff1237000) {
		unsigned char vec;
		if (mincore((void *)(at & ~(PAGE - 1)), PAGE, &vec) == 0)
			continue;
		RAISES(SIGSEGV, (void)*(volatile char *)at);
		RAISES(SIGSEGV, *(volatile char *)at = 1);
	}
}

TEST(fpe)
{
	on_signal(SIGFPE, jump_back, 0);
	volatile int zero = 0, one = 1;
	RAISES(SIGFPE, one = one / zero);
	CHECK_EQ(seen.si_code, FPE_INTDIV);
	CHECK_EQ(seen_trap, 0);
	volatile int min = INT_MIN, minus = -1;
	RAISES(SIGFPE, one = min / minus);
	volatile double d = 0.0, e = 1.0;
	unsigned int mxcsr = 0x1f80 & ~(1u << 9); /* divide by zero is unmasked */
	RAISES(SIGFPE, {
		asm volatile("ldmxcsr %0" : : "m"(mxcsr));
		e = e / d;
	});
	CHECK_EQ(seen.si_code, FPE_FLTDIV);
	CHECK_EQ(seen_trap, 19);
	mxcsr = 0x1f80;
	asm volatile("ldmxcsr %0" : : "m"(mxcsr));
	unsigned short fcw = 0x37f & ~4;
	RAISES(SIGFPE, { asm volatile("fninit\n\tfldcw %0\n\tfld1\n\tfldz\n\tfdivrp\n\tfwait" : : "m"(fcw)); });
	CHECK_EQ(seen.si_code, FPE_FLTDIV);
	CHECK_EQ(seen_trap, 16);
}

TEST(ill)
{
	on_signal(SIGILL, jump_back, 0);
	RAISES(SIGILL, asm volatile("ud2"));
	CHECK_EQ(seen.si_code, ILL_ILLOPN);
	CHECK_EQ(seen_trap, 6);
	CHECK_EQ((long)seen.si_addr, seen_rip);
	RAISES(SIGILL, asm volatile(".byte 0xf0, 0x90")); /* lock nop */
}

TEST(trap)
{
	on_signal(SIGTRAP, jump_back, 0);
	for (int i = 0; i < 10; i++) {
		RAISES(SIGTRAP, asm volatile("int3"));
		CHECK_EQ(seen.si_code, SI_KERNEL);
		CHECK_EQ(seen_trap, 3);
		CHECK_EQ(*(unsigned char *)(seen_rip - 1), 0xcc);
	}
	on_signal(SIGSEGV, jump_back, 0);
	RAISES(SIGSEGV, asm volatile("int $0x40"));
	CHECK_EQ(seen_trap, 13);
	CHECK_EQ(seen_err, 0x40 * 8 + 2);
	RAISES(SIGSEGV, asm volatile("int $0x0e")); /* no forged page fault */
	CHECK_EQ(seen_trap, 13);
}

static volatile unsigned long steps, first_rip, last_rip;

static void step(int sig, siginfo_t *si, void *uc)
{
	greg_t *r = ((ucontext_t *)uc)->uc_mcontext.gregs;

	(void)sig;
	CHECK_EQ(si->si_code, TRAP_TRACE);
	first_rip = first_rip ? first_rip : (unsigned long)r[REG_RIP];
	last_rip = (unsigned long)r[REG_RIP];
	steps++;
}

TEST(single_step_by_trap_flag)
{
	unsigned long sum, a, b;

	on_signal(SIGTRAP, step, 0);
	/* 3 instructions between the two popf, and those of the loop: 2 * 10. A system call inside is one step. */
	asm volatile("lea 1f(%%rip), %1\n\tlea 2f(%%rip), %2\n\txor %0, %0\n\t"
		     "pushf\n\tpop %%rbx\n\tmov %%rbx, %%r12\n\tor $0x100, %%rbx\n\tpush %%rbx\n\tpopf\n"
		     "1:\tmov $10, %%rcx\n3:\tadd %%rcx, %0\n\tloop 3b\n\t"
		     "push %%r12\n\tpopf\n2:\tnop"
		     : "=&r"(sum), "=&r"(a), "=&r"(b)
		     :
		     : "rbx", "rcx", "r12", "memory", "cc");
	CHECK_EQ(sum, 55);
	CHECK_EQ(steps, 1 + 20 + 2);
	CHECK(first_rip > a && last_rip == b);
}

TEST(single_step_through_a_system_call)
{
	long pid;

	steps = first_rip = 0;
	on_signal(SIGTRAP, step, 0);
	for (int i = 0; i < 5; i++) {
		unsigned long before = steps;
		asm volatile("pushf\n\torq $0x100, (%%rsp)\n\tpopf\n\t"
			     "mov $39, %%eax\n\tsyscall\n\tmov %%rax, %%rbx\n\t"
			     "pushf\n\tandq $~0x100, (%%rsp)\n\tpopf"
			     : "=&b"(pid)
			     :
			     : "rax", "rcx", "r11", "memory", "cc");
		CHECK_EQ(pid, getpid());
		CHECK(steps - before == 5 || steps - before == 6); /* processors differ in the step behind syscall */
	}
}

TEST(bus)
{
	char path[] = "/tmp/sig-bus-XXXXXX";
	int fd = mkstemp(path);

	CHECK(fd >= 0 && ftruncate(fd, 100) == 0);
	unlink(path);
	volatile char *p = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CHECK(p != MAP_FAILED);
	p[50] = 1;
	on_signal(SIGBUS, jump_back, 0);
	RAISES(SIGBUS, (void)p[PAGE + 5]);
	CHECK_EQ(seen.si_code, BUS_ADRERR);
	CHECK_EQ((long)seen.si_addr, (long)(p + PAGE + 5));
	CHECK(ftruncate(fd, 0) == 0);
	RAISES(SIGBUS, p[50] = 1);
	CHECK(ftruncate(fd, 100) == 0);
	p[50] = 2;
	CHECK_EQ(p[50], 2);
}

static void clear_ac(int sig, siginfo_t *si, void *uc)
{
	(void)sig;
	remember(si, uc);
	((ucontext_t *)uc)->uc_mcontext.gregs[REG_EFL] &= ~0x40000;
}

TEST(alignment_check)
{
	static uint64_t cell[2];
	uint64_t got;

	on_signal(SIGBUS, clear_ac, 0);
	cell[0] = 0x1122334455667788;
	count = 0;
	asm volatile("pushf\n\torq $0x40000, (%%rsp)\n\tpopf\n\t"
		     "mov 1(%1), %0\n\t"
		     "pushf\n\tandq $~0x40000, (%%rsp)\n\tpopf"
		     : "=&r"(got)
		     : "r"(cell)
		     : "memory", "cc");
	if (count == 0)
		SKIP("this machine has no alignment checks (an emulator)");
	CHECK_EQ(count, 1);
	CHECK_EQ(seen.si_code, BUS_ADRALN);
	CHECK_EQ(got, 0x0011223344556677);
}

/* ---- handlers that repair, or change, what they interrupted ---- */

static void fix_page(int sig, siginfo_t *si, void *uc)
{
	(void)sig;
	(void)uc;
	count++;
	CHECK(mprotect((void *)((uintptr_t)si->si_addr & ~(PAGE - 1)), PAGE, PROT_READ | PROT_WRITE) == 0);
}

TEST(handler_makes_page_accessible)
{
	volatile unsigned int *p = map(256 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS);

	on_signal(SIGSEGV, fix_page, 0);
	count = 0;
	for (unsigned int i = 0; i < 256; i++)
		p[i * 1024] = i + 1;
	CHECK_EQ(count, 256);
	for (unsigned int i = 0; i < 256; i++)
		CHECK_EQ(p[i * 1024], i + 1);
	CHECK_EQ(count, 256);
}

static void change_registers(int sig, siginfo_t *si, void *uc)
{
	ucontext_t *u = uc;
	greg_t *r = u->uc_mcontext.gregs;

	(void)sig;
	(void)si;
	r[REG_RIP] += 2; /* ud2 */
	r[REG_RBX] = 0x1234567890;
	r[REG_R15] = ~r[REG_R15];
	u->uc_mcontext.fpregs->_xmm[7].element[0] = 0xabcd;
}

TEST(handler_changes_registers)
{
	uint64_t rbx, r15;
	uint32_t x;

	on_signal(SIGILL, change_registers, 0);
	asm volatile("mov $5, %%ebx\n\tmov $6, %%r15d\n\tpxor %%xmm7, %%xmm7\n\tud2\n\tmovd %%xmm7, %2\n\t"
		     "mov %%rbx, %0\n\tmov %%r15, %1"
		     : "=&r"(rbx), "=&r"(r15), "=&r"(x)
		     :
		     : "rbx", "r15", "xmm7", "memory");
	CHECK_EQ(rbx, 0x1234567890);
	CHECK_EQ(r15, ~6ul);
	CHECK_EQ(x, 0xabcd);
}

/* ---- asynchronous signals against register contents ---- */

static enum vectors vectors;

static void spoil(int sig, siginfo_t *si, void *uc)
{
	static const uint8_t other[VECTOR_BYTES] __attribute__((aligned(64))) = {0x5a, 0x5b, 1, 2, 3};
	static uint8_t out[VECTOR_BYTES] __attribute__((aligned(64)));

	(void)sig;
	(void)si;
	(void)uc;
	count++;
	vector_spin(vectors, other, out, 1);
	asm volatile("fninit");
}

static void start_timer(int which, long us)
{
	struct itimerval it = {{0, us}, {0, us}};

	CHECK(setitimer(which, &it, NULL) == 0);
}

static void hold_under_signals(enum vectors v)
{
	struct state s;

	vectors = v;
	on_signal(SIGALRM, spoil, SA_RESTART);
	count = 0;
	start_timer(ITIMER_REAL, 1000);
	double end = now() + 2;
	for (uint64_t seed = 1; now() < end || count < 50; seed++) {
		state_make(&s, v, seed);
		CHECK(state_hold(&s, v, 300000));
	}
	start_timer(ITIMER_REAL, 0);
}

TEST(state_survives_signals_sse)
{
	hold_under_signals(SSE);
}

TEST(state_survives_signals_best)
{
	enum vectors v = best_vectors();

	printf("# %s\n", v == AVX512 ? "AVX-512" : v == AVX ? "AVX" : "SSE");
	hold_under_signals(v);
}

static void fault_and_spoil(int sig, siginfo_t *si, void *uc)
{
	spoil(sig, si, uc);
	fix_page(sig, si, uc);
}

TEST(state_survives_faults)
{
	/* A page fault, a signal and a repair between loading and storing the registers. */
	enum { PAGES = 200 };
	uint8_t *p = map(PAGES * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS);
	struct state s;

	vectors = best_vectors();
	on_signal(SIGSEGV, fault_and_spoil, 0);
	for (uint64_t i = 0; i < PAGES; i++) {
		state_make(&s, vectors, i);
		/* VECTOR_BYTES fit into the page; the first store faults. */
		vector_spin(vectors, s.vector, p + i * PAGE, 1);
		CHECK(memcmp(s.vector, p + i * PAGE, vector_bytes(vectors)) == 0);
	}
}

/* ---- kinds of delivery ---- */

TEST(alternate_stack)
{
	static char stack[65536];
	stack_t ss = {.ss_sp = stack, .ss_size = sizeof(stack)}, old;

	CHECK(sigaltstack(&ss, NULL) == 0);
	on_signal(SIGSEGV, jump_back, SA_ONSTACK);
	for (int i = 0; i < 10; i++) {
		RAISES(SIGSEGV, {
			/* No stack at all: only the alternate one can take the signal. */
			asm volatile("mov %%rsp, %%rbx\n\tmov $16, %%esp\n\tpush %%rax\n\tmov %%rbx, %%rsp"
				     :
				     :
				     : "rbx", "memory");
		});
	}
	CHECK(sigaltstack(NULL, &old) == 0);
	CHECK(old.ss_sp == stack);
}

static int __attribute__((noinline)) endless(volatile char *below)
{
	volatile char frame[4096];

	frame[0] = below ? *below : 1;
	if (frame[0] == 7)
		return 0;
	return endless(frame) + frame[0];
}

TEST(stack_overflow)
{
	static char stack[65536];
	stack_t ss = {.ss_sp = stack, .ss_size = sizeof(stack)};

	CHECK(sigaltstack(&ss, NULL) == 0);
	on_signal(SIGSEGV, jump_back, SA_ONSTACK);
	RAISES(SIGSEGV, endless(NULL));
}

TEST(no_stack_for_the_signal_is_death)
{
	pid_t pid = fork_ok();
	int st;

	if (pid == 0) {
		on_signal(SIGSEGV, jump_back, 0);
		asm volatile("mov $16, %%esp\n\tpush %%rax" : : : "memory");
		_exit(0);
	}
	CHECK_EQ(waitpid(pid, &st, 0), pid);
	CHECK(WIFSIGNALED(st) && WTERMSIG(st) == SIGSEGV);
}

static volatile int order[16], depth, max_depth, n_order;

static void nested(int sig, siginfo_t *si, void *uc)
{
	(void)si;
	(void)uc;
	depth++;
	if (depth > max_depth)
		max_depth = depth;
	order[n_order++] = sig;
	if (sig == SIGUSR1)
		raise(SIGUSR2);
	order[n_order++] = -sig;
	depth--;
}

TEST(nested_and_masked)
{
	struct sigaction sa = {.sa_sigaction = nested, .sa_flags = SA_SIGINFO};

	on_signal(SIGUSR1, nested, 0);
	on_signal(SIGUSR2, nested, 0);
	raise(SIGUSR1);
	CHECK_EQ(n_order, 4);
	CHECK(order[0] == SIGUSR1 && order[1] == SIGUSR2 && order[2] == -SIGUSR2 && order[3] == -SIGUSR1);
	CHECK_EQ(max_depth, 2);
	n_order = max_depth = 0;
	sigaddset(&sa.sa_mask, SIGUSR2);
	CHECK(sigaction(SIGUSR1, &sa, NULL) == 0);
	raise(SIGUSR1);
	CHECK_EQ(n_order, 4);
	CHECK(order[0] == SIGUSR1 && order[1] == -SIGUSR1 && order[2] == SIGUSR2);
	CHECK_EQ(max_depth, 1);
}

static volatile long sum, last_value;

static void take_value(int sig, siginfo_t *si, void *uc)
{
	(void)sig;
	(void)uc;
	CHECK_EQ(si->si_code, SI_QUEUE);
	CHECK_EQ(si->si_value.sival_int, last_value + 1);
	last_value = si->si_value.sival_int;
	sum += last_value;
}

TEST(queued_realtime_signals)
{
	sigset_t set, old;

	on_signal(SIGRTMIN + 2, take_value, 0);
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN + 2);
	sigprocmask(SIG_BLOCK, &set, &old);
	for (int i = 1; i <= 500; i++)
		CHECK(sigqueue(getpid(), SIGRTMIN + 2, (union sigval){.sival_int = i}) == 0);
	CHECK_EQ(sum, 0);
	sigprocmask(SIG_SETMASK, &old, NULL);
	CHECK_EQ(sum, 500 * 501 / 2);
}

static void just_count(int sig, siginfo_t *si, void *uc)
{
	(void)sig;
	(void)si;
	(void)uc;
	count++;
}

static volatile long *alarms; /* shared with children */

static void count_seen(int sig, siginfo_t *si, void *uc)
{
	(void)sig;
	(void)si;
	(void)uc;
	++*alarms;
}

TEST(interrupted_system_calls)
{
	int fd[2];
	char c;

	CHECK(pipe(fd) == 0);
	alarms = mmap(NULL, sizeof(*alarms), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(alarms != MAP_FAILED);
	/* Without SA_RESTART: EINTR. */
	on_signal(SIGALRM, just_count, 0);
	start_timer(ITIMER_REAL, 20000);
	count = 0;
	CHECK(read(fd[0], &c, 1) == -1 && errno == EINTR);
	CHECK(pause() == -1 && errno == EINTR);
	CHECK(count >= 2);
	/* With it: the read goes on over several signals until there is something. */
	pid_t pid = fork_ok();
	if (pid == 0) { /* not by the clock: a loaded guest has many timer signals in one */
		while (*alarms < 3)
			sleep_ms(20);
		CHECK(write(fd[1], "x", 1) == 1);
		_exit(0);
	}
	on_signal(SIGALRM, count_seen, SA_RESTART);
	CHECK_EQ(read(fd[0], &c, 1), 1);
	CHECK_EQ(c, 'x');
	CHECK(*alarms >= 3);
	wait_ok(pid);
	/* A sleep of 200 ms over many signals takes 200 ms in all, and says what is left. */
	struct timespec t = {.tv_nsec = 200000000};
	double start = now();
	while (nanosleep(&t, &t)) {
		CHECK_EQ(errno, EINTR);
		CHECK(t.tv_sec == 0 && t.tv_nsec <= 200000000);
	}
	CHECK(now() - start >= 0.199);
	start_timer(ITIMER_REAL, 0);
}

TEST(restart_block)
{
	/* A stopped and continued sleep goes on with the rest of its time (restart_syscall). */
	pid_t pid = fork_ok();

	if (pid == 0) {
		struct timespec t = {.tv_nsec = 400000000};
		double start = now();
		CHECK(nanosleep(&t, NULL) == 0);
		CHECK(now() - start >= 0.399);
		_exit(0);
	}
	for (int i = 0; i < 5; i++) {
		sleep_ms(30);
		kill(pid, SIGSTOP);
		sleep_ms(10);
		kill(pid, SIGCONT);
	}
	wait_ok(pid);
}

TEST(signalfd_and_wait)
{
	struct signalfd_siginfo si;
	siginfo_t info;
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, NULL);
	int fd = signalfd(-1, &set, 0);
	CHECK(fd >= 0);
	kill(getpid(), SIGUSR1);
	CHECK_EQ(read(fd, &si, sizeof(si)), sizeof(si));
	CHECK_EQ(si.ssi_signo, SIGUSR1);
	CHECK_EQ(si.ssi_pid, getpid());
	pid_t pid = fork_ok();
	if (pid == 0)
		_exit(6);
	CHECK_EQ(sigwaitinfo(&set, &info), SIGCHLD);
	CHECK_EQ(info.si_pid, pid);
	CHECK_EQ(info.si_status, 6);
	CHECK(sigtimedwait(&set, &info, &(struct timespec){.tv_nsec = 1000000}) == -1 && errno == EAGAIN);
}

TEST(profiling_timer)
{
	on_signal(SIGPROF, just_count, SA_RESTART);
	on_signal(SIGVTALRM, just_count, SA_RESTART);
	count = 0;
	start_timer(ITIMER_PROF, 5000);
	start_timer(ITIMER_VIRTUAL, 5000);
	double end = now() + 20;
	volatile unsigned long spin = 0;
	while (count < 10 && now() < end)
		spin++;
	CHECK(count >= 10);
}

TEST_LIMIT(signal_storm_between_processes, 120)
{
	/* Two processes signal each other 2000 times, strictly alternating. */
	sigset_t set;
	pid_t parent = getpid();

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);
	pid_t pid = fork_ok();
	if (pid == 0) {
		for (int i = 0; i < 2000; i++) {
			CHECK_EQ(sigwaitinfo(&set, NULL), SIGUSR1);
			kill(parent, SIGUSR1);
		}
		_exit(0);
	}
	for (int i = 0; i < 2000; i++) {
		kill(pid, SIGUSR1);
		CHECK_EQ(sigwaitinfo(&set, NULL), SIGUSR1);
	}
	wait_ok(pid);
}

TEST(fault_in_system_call_argument)
{
	int fd[2];
	char *gone = map_rw(PAGE), *ro = map_rw(PAGE);

	CHECK(pipe(fd) == 0);
	munmap(gone, PAGE);
	memset(ro, 1, PAGE);
	mprotect(ro, PAGE, PROT_READ);
	CHECK(write(fd[1], gone, 10) == -1 && errno == EFAULT);
	CHECK_EQ(write(fd[1], ro, 10), 10);
	CHECK(read(fd[0], ro, 10) == -1 && errno == EFAULT);
	CHECK(read(fd[0], gone, 10) == -1 && errno == EFAULT);
	CHECK(write(fd[1], (void *)0xffff888000000000, 10) == -1 && errno == EFAULT);
	CHECK(write(fd[1], (void *)0xffffffff81000000, 10) == -1 && errno == EFAULT);
	CHECK(write(fd[1], (void *)0x00007ffffffff000, 10) == -1 && errno == EFAULT);
	CHECK(write(fd[1], (void *)0x0000800000000000, 10) == -1 && errno == EFAULT);
	CHECK(write(fd[1], (void *)0x8000000000000000, 10) == -1 && errno == EFAULT);
	/* What a hosted guest kernel's own memory may be mapped at. */
	for (unsigned long at = 0x400000000000; at < 0x800000000000; at += 0x10000000000)
		CHECK(write(fd[1], (void *)at, 10) == -1 && errno == EFAULT);
	CHECK(syscall(SYS_write, fd[1], 0x1000, 10) == -1 && errno == EFAULT);
	CHECK(syscall(SYS_gettimeofday, 1, 0) == -1 && errno == EFAULT);
}

int main(int argc, char **argv)
{
	return run_tests(argc, argv);
}
