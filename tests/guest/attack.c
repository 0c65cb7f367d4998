/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A guest program that attacks what Linux-on-Linux has in its address space: the stub at USTUB_BASE, the slice behind it,
 * the window of trampolines (lol/mmu/ushare.h). It may lose its own life, and nothing more: no mapping that it was not
 * given, no system call of the host, no secret, and the guest goes on. Elsewhere these addresses are empty and all is skipped.
 */
#include "guest-test.h"

#include <pthread.h>
#include <setjmp.h>
#include <sys/time.h>
#include <ucontext.h>

#include "state.h"

#define STUB 0x600000000000ul
#define SLICE 0x600000100000ul
#define BATCH (SLICE + 0x1000)
#define XAREA (SLICE + 0x2000)
#define WINDOW 0x60000ul /* a table of addresses, then trampolines */
#define TRAMPOLINES 0x68000ul
#define WINDOW_SIZE 0x48000ul
#define SLICE_SIZE 0x10000ul
#define TARGET 0x10000000ul /* where an attack maps something, if it can */

/* Is the byte at p readable? Without a system call of the guest's, which would only know the guest's own mappings. */
static sigjmp_buf out;

static void on_fault(int sig)
{
	siglongjmp(out, sig);
}

static void catch_all(void (*handler)(int))
{
	static char stack[65536];
	stack_t ss = {.ss_sp = stack, .ss_size = sizeof(stack)};
	static const int signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGSYS};
	struct sigaction sa = {.sa_handler = handler, .sa_flags = SA_ONSTACK | SA_NODEFER};

	sigaltstack(&ss, NULL);
	for (unsigned i = 0; i < ARRAY_LEN(signals); i++)
		sigaction(signals[i], &sa, NULL);
}

static bool readable(unsigned long p)
{
	bool yes = false;

	catch_all(on_fault);
	if (!sigsetjmp(out, 1)) {
		(void)*(volatile char *)p;
		yes = true;
	}
	return yes;
}

static bool is_lol(void)
{
	return readable(STUB) && readable(SLICE);
}

/* ---- jumps ---- */

struct regs {
	uint64_t rax, rdi, rsi, rdx, r10, r8, r9, rbx, rcx, rsp, flags;
};

static void after_jump(int sig)
{
	(void)sig;
	catch_all(on_fault);
	if (!sigsetjmp(out, 1)) {
		(void)*(volatile char *)TARGET;
		_exit(99); /* it has got a mapping */
	}
	_exit(0);
}

static __attribute__((noreturn)) void jump_to(uint64_t rip, const struct regs *r)
{
	asm volatile("mov %[rip], %%r11\n\t"
		     "mov %[r], %%r12\n\t"
		     "mov 0(%%r12), %%rax\n\t"
		     "mov 8(%%r12), %%rdi\n\t"
		     "mov 16(%%r12), %%rsi\n\t"
		     "mov 24(%%r12), %%rdx\n\t"
		     "mov 32(%%r12), %%r10\n\t"
		     "mov 40(%%r12), %%r8\n\t"
		     "mov 48(%%r12), %%r9\n\t"
		     "mov 56(%%r12), %%rbx\n\t"
		     "mov 64(%%r12), %%rcx\n\t"
		     "pushq 80(%%r12)\n\t"
		     "popfq\n\t"
		     "mov 72(%%r12), %%r12\n\t"
		     "test %%r12, %%r12\n\t"
		     "cmovne %%r12, %%rsp\n\t"
		     "jmp *%%r11"
		     :
		     : [rip] "r"(rip), [r] "r"(r)
		     : "memory", "r11", "r12");
	__builtin_unreachable();
}

/* 0: the program ended, in whatever way. */
static int try_jump(uint64_t rip, const struct regs *r)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		close(STDERR_FILENO);
		struct itimerval quick = {.it_value = {0, 200000}};
		catch_all(after_jump);
		signal(SIGALRM, after_jump);
		setitimer(ITIMER_REAL, &quick, NULL);
		jump_to(rip, r);
	}
	for (unsigned i = 0;; i++) {
		pid_t p = waitpid(pid, &status, WNOHANG);
		if (p == pid)
			break;
		if (i > 3000) { /* SIGKILL works on everything */
			kill(pid, SIGKILL);
			waitpid(pid, &status, 0);
			break;
		}
		usleep(i < 20 ? 200 : 2000);
	}
	if (WIFEXITED(status) && WEXITSTATUS(status) == 99) {
		printf("# a jump to %lx has mapped memory\n", (unsigned long)rip);
		return 1;
	}
	return 0;
}

static const struct regs patterns[] = {
	{.flags = 0x202},
	/* mmap(TARGET, 4096, rwx, shared | fixed, the descriptor of guest RAM, 0) */
	{.rax = SYS_mmap, .rdi = TARGET, .rsi = 4096, .rdx = 7, .r10 = MAP_SHARED | MAP_FIXED, .r8 = 3, .flags = 0x202},
	/* the same as an operation in memory, with registers that point at it, and DF, TF, AC */
	{.rax = SYS_mmap,
	 .rdi = TARGET,
	 .rsi = 4096,
	 .rdx = 7,
	 .r10 = MAP_SHARED | MAP_FIXED,
	 .r8 = 3,
	 .rbx = BATCH,
	 .rsp = XAREA,
	 .flags = 0x602},
	{.rax = SYS_mmap,
	 .rdi = TARGET,
	 .rsi = 4096,
	 .rdx = 7,
	 .r10 = MAP_SHARED | MAP_FIXED,
	 .r8 = 3,
	 .rbx = BATCH,
	 .flags = 0x302},
	{.rax = ~0ul,
	 .rdi = ~0ul,
	 .rsi = ~0ul,
	 .rdx = ~0ul,
	 .r10 = ~0ul,
	 .r8 = ~0ul,
	 .r9 = ~0ul,
	 .rbx = ~0ul,
	 .rcx = ~0ul,
	 .flags = 0x40202},
	/* open("/etc/passwd") of the host */
	{.rax = SYS_open, .rdi = 0, .rcx = 100, .flags = 0x202},
};

TEST_LIMIT(jump_to_every_byte_of_the_stub, 240)
{
	if (!is_lol())
		SKIP("not under Linux-on-Linux");
	unsigned breaches = 0, end = 4096;

	while (end > 64 && !((unsigned char *)STUB)[end - 1])
		end--;
	/* Every byte with ATTACK_ALL, every 31st else: each costs a process. */
	for (unsigned at = 0; at < end; at += getenv("ATTACK_ALL") ? 1 : 31)
		breaches += try_jump(STUB + at, &patterns[at % ARRAY_LEN(patterns)]);
	CHECK(breaches == 0);
}

TEST_LIMIT(jump_to_system_calls_of_the_stub, 240)
{
	if (!is_lol())
		SKIP("not under Linux-on-Linux");
	unsigned breaches = 0, found = 0;
	const unsigned char *stub = (void *)STUB;

	for (unsigned at = 0; at + 1 < 4096; at++) {
		if (stub[at] != 0x0f || stub[at + 1] != 0x05)
			continue;
		found++;
		for (unsigned p = 0; p < ARRAY_LEN(patterns); p++)
			breaches += try_jump(STUB + at, &patterns[p]);
	}
	CHECK(found >= 5);
	CHECK(breaches == 0);
}

TEST_LIMIT(jump_into_the_window, 120)
{
	if (!is_lol())
		SKIP("not under Linux-on-Linux");
	for (unsigned i = 0; i < 100; i++)
		syscall(SYS_getppid); /* the window exists */
	CHECK(readable(WINDOW) && readable(TRAMPOLINES));
	unsigned breaches = 0;
	for (unsigned i = 0; i < 60; i++)
		breaches += try_jump(WINDOW + (i < 30 ? 0x8000 + i * 3 : (i * 2654435761ul) % WINDOW_SIZE),
				     &patterns[i % ARRAY_LEN(patterns)]);
	CHECK(breaches == 0);
}

/*
 * Instructions that stand behind a rewritten system call move into the window. Here they are a number that nobody else has:
 * the program finds it in its own window, which shows that the search is right, and no other program does, neither while
 * that one lives nor in the process of the host that it has left.
 */
static bool in_the_window(uint32_t number)
{
	const unsigned char *p = (void *)TRAMPOLINES;

	for (unsigned long i = 0; i < WINDOW + WINDOW_SIZE - TRAMPOLINES - 4; i++)
		if (p[i] == (unsigned char)number && p[i + 1] == (unsigned char)(number >> 8) &&
		    p[i + 2] == (unsigned char)(number >> 16) && p[i + 3] == (unsigned char)(number >> 24))
			return true;
	return false;
}

/* Is it found? Where the page was another's a moment ago, the call is rewritten some time later. */
static bool call_with_number_behind(uint32_t number)
{
	unsigned char *code = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	unsigned char text[] = {0xb8, SYS_getppid, 0, 0, 0, 0x0f, 0x05,
				0x41, 0xb8,        0, 0, 0, 0,    0xc3}; /* mov, syscall, mov to r8d, ret */

	memcpy(text + 9, &number, 4);
	memcpy(code, text, sizeof(text));
	mprotect(code, PAGE, PROT_READ | PROT_EXEC);
	for (unsigned i = 0; i < 100; i++) {
		((void (*)(void))code)();
		if (i % 10 == 9 && in_the_window(number))
			return true;
		usleep(5000);
	}
	return false;
}

TEST_LIMIT(text_of_others_is_not_in_the_window, 120)
{
	if (!is_lol())
		SKIP("not under Linux-on-Linux");
	unsigned own = 0, others = 0;

	for (unsigned round = 0; round < 20; round++) {
		uint32_t number = (uint32_t)(getpid() * 2654435761u + round * 40503u) | 0x80808080u;
		int done[2], go[2];
		char c;
		CHECK(pipe(done) == 0 && pipe(go) == 0);
		pid_t pid = fork();
		if (pid == 0) {
			char found = (char)call_with_number_behind(number);
			(void)!write(done[1], &found, 1);
			(void)!read(go[0], &c, 1);
			_exit(0);
		}
		CHECK(read(done[0], &c, 1) == 1);
		own += c == 1;
		others += in_the_window(number);
		(void)!write(go[1], "", 1);
		waitpid(pid, NULL, 0);
		for (unsigned next = 0; next < 3; next++) {
			int status;
			if ((pid = fork()) == 0)
				_exit(in_the_window(number) ? 97 : 0);
			waitpid(pid, &status, 0);
			others += !WIFEXITED(status) || WEXITSTATUS(status) != 0;
		}
		close(done[0]), close(done[1]), close(go[0]), close(go[1]);
	}
	CHECK_EQ(others, 0);
	CHECK(own > (sysconf(_SC_NPROCESSORS_ONLN) > 1
			     ? 0
			     : 10)); /* other CPUs may still know the page as one that is written */
}

/* ---- memory ---- */

/* A word of an operation with a secret: a call's low half as LoL makes it, and something in the high half. */
static unsigned secrets_in(unsigned long from, unsigned long to)
{
	unsigned n = 0;

	for (volatile uint64_t *p = (void *)from; p < (volatile uint64_t *)to; p++)
		if ((uint32_t)*p == (MAP_SHARED | MAP_FIXED) && *p >> 36)
			n++;
	return n;
}

TEST(no_secret_stays_in_memory)
{
	if (!is_lol())
		SKIP("not under Linux-on-Linux");
	unsigned found = 0;
	struct itimerval often = {.it_interval = {0, 1000}, .it_value = {0, 1000}};

	signal(SIGALRM, SIG_IGN);
	setitimer(ITIMER_REAL, &often, NULL);
	for (unsigned i = 0; i < 200; i++) {
		volatile char *p = mmap(NULL, 64 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		for (unsigned k = 0; k < 64; k++)
			p[k * PAGE] = 1;
		munmap((void *)p, 64 * PAGE);
		found += secrets_in(BATCH, BATCH + 0x1000) + secrets_in(SLICE + 0x3000, SLICE + SLICE_SIZE);
	}
	CHECK(found == 0);
}

/*
 * Pretend to be waiting, with a page fault to report, and run on: what does K write for the stub? The layout is that of
 * struct ushare; a kick by the timer ends the game, so it is played many times.
 */
TEST_LIMIT(pretend_to_wait_and_look, 120)
{
	if (!is_lol())
		SKIP("not under Linux-on-Linux");
	unsigned stolen = 0;
	char *fresh = mmap(NULL, 512 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	CHECK(fresh != MAP_FAILED);
	time_t end = time(NULL) + 15;
	for (unsigned round = 0; round < 60 && !stolen && (round < 5 || time(NULL) < end); round++) {
		pid_t pid = fork();
		if (pid == 0) {
			volatile uint32_t *word = (void *)SLICE;
			volatile uint64_t *regs = (void *)(SLICE + 64);
			volatile uint64_t *batch = (void *)BATCH;
			uint32_t zero = 0;
			alarm(2);
			regs[20] = 14;                                   /* trap number: page fault */
			regs[19] = 6;                                    /* a write by user code */
			regs[22] = (uint64_t)(fresh + round * 8 * PAGE); /* at */
			regs[16] = (uint64_t) && on;                     /* rip */
			regs[17] = 0x202;
			regs[15] = (uint64_t)__builtin_frame_address(0);
			word[3] = SIGSEGV;                                                  /* why */
			asm volatile("xchg %0, %1" : "+r"(zero), "+m"(*word) : : "memory"); /* turn: K's */
			for (unsigned long i = 0; i < 30000000; i++)
				for (unsigned k = 0; k < 16; k++)
					if (batch[8 * k + 4] >> 32 || batch[8 * k + 3] >> 36)
						_exit(98);
			_exit(0);
on:
			_exit(0);
		}
		int status;
		waitpid(pid, &status, 0);
		if (WIFEXITED(status) && WEXITSTATUS(status) == 98)
			stolen++;
	}
	CHECK(stolen == 0);
}

/*
 * Two vCPUs: a thread pretends to sleep, so that its vCPU goes idle with this address space, and reads on. Its sibling unmaps the page:
 * from then on nobody may read it.
 */
struct idler {
	volatile uint64_t *page;
	volatile unsigned *seen; /* [0] what the page had, [1] it is unmapped, [2] it was read after that */
};

static void *read_on_while_idle(void *arg)
{
	const struct idler *t = arg;
	volatile unsigned *seen = t->seen;
	volatile uint32_t *word = (void *)SLICE;
	volatile uint64_t *regs = (void *)(SLICE + 64);
	struct timespec ten = {.tv_sec = 10};
	uint32_t zero = 0;

	seen[0] = (unsigned)*t->page;
	regs[13] = SYS_nanosleep;
	regs[8] = (uint64_t)&ten;
	regs[9] = 0;
	regs[16] = (uint64_t) && on;
	regs[17] = 0x202;
	regs[15] = (uint64_t)__builtin_frame_address(0);
	word[64] = 0xc000003e;                                              /* AUDIT_ARCH_X86_64 */
	word[3] = SIGSYS;                                                   /* why */
	asm volatile("xchg %0, %1" : "+r"(zero), "+m"(*word) : : "memory"); /* turn: K's */
	for (;;) {
		bool unmapped = seen[1];
		unsigned value = (unsigned)*t->page;
		seen[0] = value;
		if (unmapped)
			seen[2] = 1;
	}
on:
	return NULL;
}

TEST_LIMIT(read_on_on_an_idle_cpu, 120)
{
	cpu_set_t second;

	CPU_ZERO(&second);
	CPU_SET(1, &second);
	if (!is_lol() || sysconf(_SC_NPROCESSORS_ONLN) < 2)
		SKIP("not under Linux-on-Linux with several CPUs");
	volatile unsigned *seen = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	unsigned pretended = 0, leaked = 0;

	CHECK(seen != MAP_FAILED);
	for (unsigned round = 0; round < 8; round++) {
		memset((void *)seen, 0, 16);
		pid_t pid = fork();
		if (pid == 0) {
			cpu_set_t first;
			pthread_t thread;
			pthread_attr_t attr;
			/* neighbours that stay: no page table is freed with the page */
			char *pages = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
			struct idler t = {.page = (void *)(pages + PAGE), .seen = seen};

			memset(pages, 0, 3 * PAGE);
			CPU_ZERO(&first);
			CPU_SET(0, &first);
			sched_setaffinity(0, sizeof(first), &first);
			pthread_attr_init(&attr);
			pthread_attr_setaffinity_np(&attr, sizeof(second), &second);
			if (pthread_create(&thread, &attr, read_on_while_idle, &t))
				_exit(3);
			usleep(100000);
			*t.page = 77;
			usleep(20000);
			unsigned before = seen[0];
			munmap(pages + PAGE, PAGE);
			seen[1] = 1;
			usleep(200000);
			_exit(before == 77 ? 77 : 0);
		}
		int status;
		waitpid(pid, &status, 0);
		pretended += WIFEXITED(status) && WEXITSTATUS(status) == 77;
		leaked += seen[2];
	}
	CHECK(leaked == 0);
	if (!pretended)
		SKIP("the thread was always found out before");
}

/*
 * A process that has ended leaves nothing of its registers to the next one that runs where it ran: neither in the stub's words nor
 * in signal frames nor among the vector registers.
 */
static uint64_t secret_of(unsigned round)
{
	return 0x5ec2e70000000001u + 0x100000ul * round;
}

static void __attribute__((noinline)) live_with_secret(unsigned round)
{
	uint64_t *pages = mmap(NULL, 64 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	register uint64_t secret asm("r12") = secret_of(round);

	if (__builtin_cpu_supports(
		    "avx")) /* of the upper halves a frame has nothing new when a program does not use them */
		asm volatile("vmovq %0, %%xmm7\n\tvmovddup %%xmm7, %%xmm7\n\tvinsertf128 $1, %%xmm7, %%ymm7, %%ymm7"
			     :
			     : "r"(secret)
			     : "xmm7");
	for (unsigned i = 0; i < 40; i++)
		asm volatile("mov %0, %%r14\n\tmov %0, %%r15\n\tmov $110, %%eax\n\tsyscall\n\tmovb $1, (%1)"
			     :
			     : "r"(secret), "r"(pages + i * PAGE / 8)
			     : "rax", "rcx", "r11", "r14", "r15", "memory");
	_exit(0);
}

/* No register has one here: the halves are looked for by themselves. */
static unsigned __attribute__((noinline)) left_behind(void)
{
	unsigned found = 0;

	for (const volatile uint32_t *w = (void *)SLICE; w < (uint32_t *)(SLICE + SLICE_SIZE); w += 2)
		found += w[1] == 0x5ec2e700 && (w[0] & 0xfffff) == 1;
	return found;
}

TEST_LIMIT(registers_of_the_dead, 120)
{
	if (!is_lol())
		SKIP("not under Linux-on-Linux");
	unsigned found = 0;

	for (unsigned round = 0; round < 400; round++) {
		int status;
		pid_t pid = fork();
		if (pid == 0) {
			if (round % 2 == 0)
				live_with_secret(round);
			_exit((int)left_behind());
		}
		CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status));
		found += (unsigned)WEXITSTATUS(status);
	}
	CHECK_EQ(found, 0);
}

TEST_LIMIT(garbage_in_the_slice, 120)
{
	if (!is_lol())
		SKIP("not under Linux-on-Linux");
	for (unsigned round = 0; round < 8; round++) {
		pid_t pid = fork();
		if (pid == 0) {
			uint64_t x = round * 0x9e3779b97f4a7c15ull + 1;
			volatile uint64_t *slice = (void *)SLICE;
			close(STDERR_FILENO);
			alarm(2);
			for (unsigned i = 0; i < 3000; i++) {
				x = x * 6364136223846793005ull + 1442695040888963407ull;
				unsigned at = x >> 33 & 0x1fff;
				slice[round % 3 == 0 ? at & 63 : at & 0x7ff] = round % 2 ? x : x >> 60;
				if (i % 100 == 0) {
					syscall(SYS_getppid);
					free(malloc(200000));
				}
			}
			_exit(0);
		}
		for (unsigned i = 0; i < 2000 && waitpid(pid, NULL, WNOHANG) == 0; i++) {
			usleep(1000);
			if (i == 1500)
				kill(pid, SIGKILL);
		}
	}
	pid_t pid = fork(); /* the guest goes on */
	if (pid == 0)
		_exit(7);
	int status;
	CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 7);
}

/* ---- what the guest kernel refuses, and other ways into a kernel ---- */

TEST(mapping_over_the_stub)
{
	if (!is_lol())
		SKIP("not under Linux-on-Linux");
	CHECK(mmap((void *)STUB, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED);
	CHECK(mmap((void *)SLICE, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED);
	CHECK(munmap((void *)STUB, PAGE) == -1);
	CHECK(mprotect((void *)STUB, PAGE, PROT_READ | PROT_WRITE) == -1);
	CHECK(mremap((void *)SLICE, PAGE, PAGE, MREMAP_MAYMOVE) == MAP_FAILED);
	CHECK(madvise((void *)SLICE, PAGE, MADV_DONTNEED) == -1);
	CHECK(is_lol());
	/* nor by way of the guest kernel's own accesses */
	CHECK(write(STDOUT_FILENO, (void *)STUB, 16) == -1 && errno == EFAULT);
	CHECK(read(open("/dev/zero", O_RDONLY), (void *)SLICE, 16) == -1 && errno == EFAULT);
}

TEST(other_doors)
{
	unsigned i;

	for (i = 0; i < 4; i++) {
		pid_t pid = fork();
		if (pid == 0) {
			long ret = -1;
			signal(SIGSEGV, SIG_DFL);
			signal(SIGILL, SIG_DFL);
			if (i == 0) /* open() of the second table */
				asm volatile("int $0x80"
					     : "=a"(ret)
					     : "a"(5), "b"(0), "c"(0), "d"(0)
					     : "memory", "r8", "r9", "r10", "r11");
			else if (i == 1)
				asm volatile("mov %%rsp, %%rbp; sysenter" : : "a"(20) : "memory", "rbp", "rcx", "rdx");
			else if (i == 2)
				ret = ((long (*)(long *))0xffffffffff600400ul)(NULL); /* vsyscall time() */
			else
				ret = syscall(SYS_getpid | 0x40000000);
			_exit(ret >= 0 && i != 0 ? 1 : 0);
		}
		int status;
		waitpid(pid, &status, 0);
		CHECK(!WIFEXITED(status) || WEXITSTATUS(status) == 0 || i == 2);
	}
}

int main(int argc, char **argv)
{
	return run_tests(argc, argv);
}
