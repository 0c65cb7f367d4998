// SPDX-License-Identifier: BSD-2-Clause
/*
 * The edge between user and kernel: what a system call leaves of the registers, numbers that do not exist, instructions
 * that user code may not use, ways of calling that this kernel refuses.
 */
#include "guest-test.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <setjmp.h>
#include <stddef.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/utsname.h>
#include <ucontext.h>

static sigjmp_buf back;
static volatile int caught;

static void jump_back(int sig)
{
	caught = sig;
	siglongjmp(back, 1);
}

#define SIGNAL_OF(code) \
	({ \
		caught = 0; \
		if (sigsetjmp(back, 1) == 0) { \
			code; \
		} \
		caught; \
	})

static void catch_all(void)
{
	static const int sigs[] = {SIGSEGV, SIGBUS, SIGILL, SIGTRAP, SIGFPE, SIGSYS};

	for (size_t i = 0; i < ARRAY_LEN(sigs); i++)
		signal(sigs[i], jump_back);
}

TEST(registers_across_a_system_call)
{
	static uint64_t out[16]; /* not on the stack, which the code below moves */
	uint64_t flags, rip;

	for (int i = 0; i < 200; i++) {
		uint64_t nr = i % 2 ? SYS_getppid : SYS_sched_yield;
		asm volatile(
			"push %%rbp\n\t"
			"mov $0x101, %%rbx\n\tmov $0x102, %%rdx\n\tmov $0x103, %%rsi\n\tmov $0x104, %%rdi\n\t"
			"mov $0x105, %%rbp\n\tmov $0x108, %%r8\n\tmov $0x109, %%r9\n\tmov $0x110, %%r10\n\t"
			"mov $0x112, %%r12\n\tmov $0x113, %%r13\n\tmov $0x114, %%r14\n\tmov $0x115, %%r15\n\t"
			"std\n\tstc\n\tsyscall\n1:\tpushf\n\tcld\n\t"
			"push %%r15\n\tpush %%r14\n\tpush %%r13\n\tpush %%r12\n\tpush %%r11\n\tpush %%r10\n\tpush %%r9\n\tpush %%r8\n\t"
			"push %%rbp\n\tpush %%rdi\n\tpush %%rsi\n\tpush %%rdx\n\tpush %%rcx\n\tpush %%rbx\n\t"
			"mov 14*8+8(%%rsp), %%rbp\n\t" /* ours */
			"lea %0, %%rdi\n\tmov %%rsp, %%rsi\n\tmov $15, %%ecx\n\trep movsq\n\t"
			"lea 1b(%%rip), %%rax\n\tmov %%rax, 15*8+%0\n\t"
			"add $15*8, %%rsp\n\tpop %%rbp"
			: "=m"(out), "+a"(nr)
			:
			: "rbx", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
			  "memory", "cc");
		CHECK_EQ(out[0], 0x101);
		CHECK_EQ(out[2], 0x102);
		CHECK_EQ(out[3], 0x103);
		CHECK_EQ(out[4], 0x104);
		CHECK_EQ(out[5], 0x105);
		CHECK_EQ(out[6], 0x108);
		CHECK_EQ(out[7], 0x109);
		CHECK_EQ(out[8], 0x110);
		CHECK_EQ(out[10], 0x112);
		CHECK_EQ(out[11], 0x113);
		CHECK_EQ(out[12], 0x114);
		CHECK_EQ(out[13], 0x115);
		flags = out[14];
		rip = out[15];
		CHECK_EQ(flags & 0xcd5, out[9] & 0xcd5); /* r11 has the flags, which are kept */
		CHECK_EQ(flags & 0x401, 0x401);
		CHECK_EQ(flags & 0x200, 0x200);
		CHECK_EQ(out[1], rip); /* rcx */
	}
}

/*
 * Anything in the registers that a call keeps, rsp among them. Three sites, of which LoL makes what it likes; each call differs from
 * the one before in some registers, none, or all.
 */
static volatile uint64_t reg_in[13] __attribute__((used)), reg_out[13] __attribute__((used)),
	reg_flags __attribute__((used));
static uint64_t reg_sp __attribute__((used));

#define EACH_KEPT(what) \
	what("rbx", 0) what("rdx", 1) what("rsi", 2) what("rdi", 3) what("rbp", 4) what("r8", 5) what("r9", 6) \
		what("r10", 7) what("r12", 8) what("r13", 9) what("r14", 10) what("r15", 11) what("rsp", 12)
#define LOAD(reg, i) "mov " #i "*8+reg_in(%%rip), %%" reg "\n\t"
#define STORE(reg, i) "mov %%" reg ", " #i "*8+reg_out(%%rip)\n\t"
#define CALL_SITE(name, before) \
	static void __attribute__((noinline)) name(void) \
	{ \
		asm volatile("push %%rbp\n\tpush %%rbx\n\tmov %%rsp, reg_sp(%%rip)\n\t" \
			     "push reg_flags(%%rip)\n\tpopf\n\t" EACH_KEPT(LOAD) before \
			     "mov $110, %%eax\n\tsyscall\n\t" EACH_KEPT( \
				     STORE) "mov reg_sp(%%rip), %%rsp\n\tpushf\n\tpop reg_flags(%%rip)\n\tcld\n\t" \
					    "pop %%rbx\n\tpop %%rbp" \
			     : \
			     : \
			     : "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", \
			       "r15", "memory", "cc"); \
	}
CALL_SITE(call_plain, "")
CALL_SITE(call_behind_a_jump, "jmp 1f\n1:\t")
CALL_SITE(call_behind_nops, "nop\n\tnop\n\t")

static void call_with(uint64_t random)
{
	static void (*const calls[])(void) = {call_plain, call_behind_a_jump, call_behind_nops};
	static char stack[65536] __attribute__((aligned(16)));
	static const uint64_t flags[] = {0x202, 0x246, 0xad7, 0x203, 0x606, 0x200a93};
	unsigned mask = random >> 16 & (random & 1 ? 0x1fff : random & 2 ? 0x41 : random & 4 ? 0x1104 : 0);

	for (unsigned i = 0; i < 12; i++)
		if (mask >> i & 1)
			reg_in[i] = reg_in[i] * 0x9e3779b97f4a7c15u + random;
	reg_in[12] = (uint64_t)stack + 32768 + (mask >> 12 & 1 ? random >> 40 & 0x7fff : reg_in[12] & 8);
	reg_flags = flags[(random >> 8) % ARRAY_LEN(flags)];
	calls[(random >> 32) % (random & 8 ? 3 : 1)]();
}

TEST(any_registers_across_a_system_call)
{
	uint64_t random = 1;

	for (int round = 0; round < 200000; round++) {
		random = random * 6364136223846793005u + 1442695040888963407u;
		uint64_t before = random >> 20;
		call_with(before);
		CHECK(!memcmp((void *)reg_in, (void *)reg_out, sizeof(reg_in)));
	}
}

/* What the kernel is told of them: by ptrace, at the system call's entry and at its exit. */
TEST(any_registers_into_a_system_call)
{
	uint64_t random = 7;
	int st;
	pid_t pid = fork_ok();

	if (pid == 0) {
		CHECK(ptrace(PTRACE_TRACEME, 0, 0, 0) == 0);
		raise(SIGSTOP);
		for (int round = 0; round < 2000; round++) {
			random = random * 6364136223846793005u + 1442695040888963407u;
			call_with(random >> 20);
		}
		_exit(0);
	}
	CHECK_EQ(waitpid(pid, &st, 0), pid);
	CHECK(WIFSTOPPED(st) && ptrace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACESYSGOOD) == 0);
	unsigned seen = 0;
	for (;;) {
		CHECK(ptrace(PTRACE_SYSCALL, pid, 0, 0) == 0);
		CHECK_EQ(waitpid(pid, &st, 0), pid);
		if (WIFEXITED(st))
			break;
		CHECK(WIFSTOPPED(st) && WSTOPSIG(st) == (SIGTRAP | 0x80));
		struct user_regs_struct r;
		CHECK(ptrace(PTRACE_GETREGS, pid, 0, &r) == 0);
		if (r.orig_rax != SYS_getppid)
			continue;
		uint64_t in[13];
		struct iovec to = {in, sizeof(in)}, from = {(void *)reg_in, sizeof(in)};
		CHECK_EQ(process_vm_readv(pid, &to, 1, &from, 1, 0), sizeof(in));
		const uint64_t have[13] = {r.rbx, r.rdx, r.rsi, r.rdi, r.rbp, r.r8, r.r9,
					   r.r10, r.r12, r.r13, r.r14, r.r15, r.rsp};
		for (unsigned i = 0; i < 13; i++)
			CHECK_EQ(have[i], in[i]);
		seen++;
	}
	CHECK_EQ(WEXITSTATUS(st), 0);
	CHECK(seen >= 4000);
}

TEST(flags_are_kept)
{
	/* Every user flag through a call, alone and together: CF PF AF ZF SF DF OF, AC, ID. */
	static const uint64_t bits[] = {1, 4, 0x10, 0x40, 0x80, 0x400, 0x800, 0x200000, 0xcd5};

	for (size_t i = 0; i < ARRAY_LEN(bits); i++) {
		uint64_t in = 0x202 | bits[i], out;
		asm volatile("push %1\n\tpopf\n\tmov $39, %%eax\n\tsyscall\n\tpushf\n\tpop %0\n\tcld"
			     : "=&r"(out)
			     : "r"(in)
			     : "rax", "rcx", "r11", "memory", "cc");
		CHECK_EQ(out & 0x200ed5, in & 0x200ed5);
	}
}

TEST(unknown_numbers)
{
	static const long numbers[] = {-1, -2, 400, 423, 600, 1000, 4095, 65535, 0x7fffffff};

	for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
		CHECK(syscall(numbers[i]) == -1 && errno == ENOSYS);
	/* x32: the same calls with bit 30, which this kernel does not have */
	for (long n = 0; n < 30; n++)
		CHECK(syscall(0x40000000 | n, 0, 0, 0) == -1 && errno == ENOSYS);
	CHECK(syscall(0x40000000 | 512, 0, 0) == -1 && errno == ENOSYS);
	/* the upper half of rax is not part of the number on x86-64 Linux */
	long r;
	asm volatile("syscall" : "=a"(r) : "a"(0x500000000 + SYS_getpid) : "rcx", "r11", "memory");
	CHECK_EQ(r, getpid());
}

static bool stays_alive_after(void (*f)(void))
{
	pid_t pid = fork_ok();
	int st;

	if (pid == 0) {
		catch_all();
		f();
		_exit(0);
	}
	CHECK_EQ(waitpid(pid, &st, 0), pid);
	return WIFEXITED(st) && WEXITSTATUS(st) == 0;
}

static void old_gate(void)
{
	static long r;
	static volatile int sig;

	sig = SIGNAL_OF(asm volatile("int $0x80" : "=a"(r) : "a"(20L) : "memory")); /* getpid of i386 */

	CHECK(sig == SIGSEGV || (sig == 0 && r == getpid()));
	printf("# int 0x80: %s\n", sig ? "refused" : "works");
	fflush(stdout);
}

static void old_sysenter(void)
{
	volatile int sig = SIGNAL_OF(asm volatile("mov %%rsp, %%rbp\n\tsysenter"
						  :
						  : "a"(20L)
						  : "rcx", "rdx", "rbx", "rsi", "rdi", "memory"));

	CHECK(sig == SIGSEGV || sig == SIGILL);
}

TEST(old_ways_of_calling)
{
	CHECK(stays_alive_after(old_gate));
	/* sysenter in 64-bit mode: no Linux takes it; nothing but this process may suffer */
	stays_alive_after(old_sysenter);
	CHECK_EQ(getppid(), getppid());
}

TEST(programs_of_32_bits)
{
	/* An i386 program that exits with 5 by int $0x80: runs on kernels that can, else exec says ENOEXEC. */
	static const unsigned char elf[] = {
		0x7f, 'E',  'L',  'F',  1,    1,    1,    0,    0,    0,    0, 0, 0,    0, 0,    0,    2, 0, 3, 0,
		1,    0,    0,    0,    0x54, 0x80, 0x04, 0x08, 0x34, 0,    0, 0, 0,    0, 0,    0,    0, 0, 0, 0,
		0x34, 0,    0x20, 0,    1,    0,    0,    0,    0,    0,    0, 0, 1,    0, 0,    0,    0, 0, 0, 0,
		0,    0x80, 0x04, 0x08, 0,    0x80, 0x04, 0x08, 0x60, 0,    0, 0, 0x60, 0, 0,    0,    5, 0, 0, 0,
		0,    0x10, 0,    0,    0xb8, 1,    0,    0,    0,    0xbb, 5, 0, 0,    0, 0xcd, 0x80,
	};
	int fd = memfd_create("i386", MFD_CLOEXEC), st;

	CHECK(fd >= 0 && write(fd, elf, sizeof(elf)) == sizeof(elf));
	pid_t pid = fork_ok();
	if (pid == 0) {
		fexecve(fd, (char *[]){"i386", NULL}, (char *[]){NULL});
		_exit(errno == ENOEXEC ? 100 : 101);
	}
	CHECK_EQ(waitpid(pid, &st, 0), pid);
	CHECK(WIFEXITED(st));
	CHECK(WEXITSTATUS(st) == 5 || WEXITSTATUS(st) == 100);
}

#define FORBIDDEN(text, ...) \
	{ \
		static volatile int sig; \
		sig = SIGNAL_OF(asm volatile(text : : __VA_ARGS__)); \
		if (sig != SIGSEGV && sig != SIGILL) { \
			printf("# %s: signal %d\n", text, sig); \
			bad++; \
		} \
	}

TEST(privileged_instructions)
{
	static int bad;
	static uint64_t area[8];

	catch_all();
	FORBIDDEN("hlt", "a"(0));
	FORBIDDEN("cli", "a"(0));
	FORBIDDEN("sti", "a"(0));
	FORBIDDEN("in %%dx, %%al", "d"(0x80));
	FORBIDDEN("out %%al, %%dx", "d"(0x80), "a"(0));
	FORBIDDEN("in $0x64, %%al", "a"(0));
	FORBIDDEN("mov %%cr0, %%rax", "a"(0));
	FORBIDDEN("mov %%cr3, %%rax", "a"(0));
	FORBIDDEN("mov %%rax, %%cr3", "a"(0));
	FORBIDDEN("mov %%cr4, %%rax", "a"(0));
	FORBIDDEN("mov %%rax, %%cr8", "a"(0));
	FORBIDDEN("mov %%dr7, %%rax", "a"(0));
	FORBIDDEN("mov %%rax, %%dr0", "a"(0));
	FORBIDDEN("rdmsr", "c"(0xc0000080));
	FORBIDDEN("wrmsr", "c"(0xc0000080), "a"(0), "d"(0));
	FORBIDDEN("lgdt %0", "m"(area));
	FORBIDDEN("lidt %0", "m"(area));
	FORBIDDEN("lldt %%ax", "a"(0));
	FORBIDDEN("ltr %%ax", "a"(0));
	FORBIDDEN("lmsw %%ax", "a"(0));
	FORBIDDEN("clts", "a"(0));
	FORBIDDEN("invlpg %0", "m"(area));
	FORBIDDEN("wbinvd", "a"(0));
	FORBIDDEN("invd", "a"(0));
	FORBIDDEN("swapgs", "a"(0));
	FORBIDDEN("sysretq", "c"(0), "a"(0));
	FORBIDDEN("xsetbv", "c"(0), "a"(7), "d"(0));
	FORBIDDEN(".byte 0x0f, 0x01, 0xf8", "a"(0));
	fflush(stdout);
	CHECK_EQ(bad, 0);
}

TEST(descriptor_table_reads)
{
	/* UMIP: refused, or emulated with harmless values; never a crash. */
	static uint8_t table[10];
	static volatile int sig;

	catch_all();
	sig = SIGNAL_OF(asm volatile("sgdt %0" : "=m"(table)));
	CHECK(sig == 0 || sig == SIGSEGV);
	sig = SIGNAL_OF(asm volatile("sidt %0" : "=m"(table)));
	CHECK(sig == 0 || sig == SIGSEGV);
	unsigned long word;
	sig = SIGNAL_OF(asm volatile("smsw %0" : "=r"(word)));
	CHECK(sig == 0 || sig == SIGSEGV);
	sig = SIGNAL_OF(asm volatile("str %0" : "=r"(word)));
	CHECK(sig == 0 || sig == SIGSEGV);
	sig = SIGNAL_OF(asm volatile("sldt %0" : "=r"(word)));
	CHECK(sig == 0 || sig == SIGSEGV);
}

static void load_selectors(void)
{
	static volatile size_t i;
	static const unsigned short bad[] = {0x08, 0x10, 0x18, 0x33, 0x3b, 0x43, 0x87, 0x1000, 0xfff8};

	for (i = 0; i < ARRAY_LEN(bad); i++) {
		(void)SIGNAL_OF(asm volatile("mov %0, %%fs\n" : : "r"(bad[i])));
		(void)SIGNAL_OF(asm volatile("mov %0, %%es\n" : : "r"(bad[i])));
	}
}

static void far_return_to_kernel(void)
{
	static volatile int cs;

	for (cs = 0; cs < 0x60; cs += 8) {
		if (cs == 0x20 || cs == 0x30) /* user code: may work */
			continue;
		caught = 0;
		if (sigsetjmp(back, 1) == 0)
			asm volatile("push %0\n\tlea 1f(%%rip), %%rax\n\tpush %%rax\n\tlretq\n1:"
				     :
				     : "r"((long)cs)
				     : "rax", "memory");
		CHECK_EQ(caught, SIGSEGV);
	}
	caught = 0;
	if (sigsetjmp(back, 1) == 0)
		asm volatile(
			"push $0x10\n\tpush %%rsp\n\tpushf\n\tpush $0x08\n\tlea 1f(%%rip), %%rax\n\tpush %%rax\n\tiretq\n1:"
			:
			:
			: "rax", "memory");
	CHECK_EQ(caught, SIGSEGV);
}

TEST(selectors_of_others)
{
	stays_alive_after(load_selectors); /* fs in glibc programs: may end it */
	CHECK(stays_alive_after(far_return_to_kernel));
}

TEST(iret_in_user_mode)
{
	/* Legal: the same privilege. */
	for (int i = 0; i < 20; i++) {
		long ok = 0;
		asm volatile(
			"mov %%rsp, %%rbx\n\tmov %%ss, %%ecx\n\tpush %%rcx\n\tpush %%rbx\n\tpushf\n\tmov %%cs, %%ecx\n\tpush %%rcx\n\t"
			"lea 1f(%%rip), %%rcx\n\tpush %%rcx\n\tiretq\n\tud2\n1:\tmov $1, %0"
			: "=&r"(ok)
			:
			: "rbx", "rcx", "memory", "cc");
		CHECK_EQ(ok, 1);
	}
}

static void ill_stack(int sig, siginfo_t *si, void *uc)
{
	(void)sig;
	(void)si;
	((ucontext_t *)uc)->uc_mcontext.gregs[REG_RIP] = (greg_t)0x8000000000000000; /* not canonical */
}

static void bad_sigreturn(void)
{
	on_signal(SIGUSR1, ill_stack, 0);
	caught = 0;
	if (sigsetjmp(back, 1) == 0)
		raise(SIGUSR1);
	CHECK_EQ(caught, SIGSEGV);
}

static void kernel_rip(int sig, siginfo_t *si, void *uc)
{
	(void)sig;
	(void)si;
	((ucontext_t *)uc)->uc_mcontext.gregs[REG_RIP] = (greg_t)0xffffffff81000000;
	((ucontext_t *)uc)->uc_mcontext.gregs[REG_EFL] |= 0x3000;
}

static void sigreturn_to_kernel(void)
{
	on_signal(SIGUSR1, kernel_rip, 0);
	caught = 0;
	if (sigsetjmp(back, 1) == 0)
		raise(SIGUSR1);
	CHECK_EQ(caught, SIGSEGV);
}

static void forged_sigreturn(void)
{
	static char stack[8192] __attribute__((aligned(64)));

	memset(stack, 0xff, sizeof(stack));
	caught = 0;
	if (sigsetjmp(back, 1) == 0)
		asm volatile("mov %0, %%rsp\n\tmov $15, %%eax\n\tsyscall"
			     :
			     : "r"(stack + 1024)
			     : "rcx", "r11", "rax", "memory");
}

TEST(forged_signal_frames)
{
	CHECK(stays_alive_after(bad_sigreturn));
	CHECK(stays_alive_after(sigreturn_to_kernel));
	pid_t pid = fork_ok();
	if (pid == 0) {
		forged_sigreturn();
		_exit(0);
	}
	int st;
	CHECK_EQ(waitpid(pid, &st, 0), pid);
	CHECK(WIFSIGNALED(st) && WTERMSIG(st) == SIGSEGV);
}

static void at_the_edge(void)
{
	/* A syscall instruction as the last one below the end of user space: its return address is not canonical on 5-level-less
	   machines. Linux keeps the last page unmapped for this reason. */
	char *last = (char *)0x7ffffffff000;

	CHECK(mmap(last, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE,
		   -1, 0) == MAP_FAILED);
}

TEST(end_of_user_space)
{
	struct rlimit r;

	CHECK(stays_alive_after(at_the_edge));
	CHECK(getrlimit(RLIMIT_STACK, &r) == 0);
	CHECK((unsigned long)&r < 0x800000000000);
}

/* Jump to and read from the pages around and above everything this process has: nothing of the machine's may be there. */
TEST_LIMIT(nothing_foreign_in_the_address_space, 120)
{
	static volatile long readable;
	static unsigned long at;
	FILE *maps = fopen("/proc/self/maps", "r");
	static struct {
		unsigned long from, to;
	} area[256];
	static size_t n, i;
	char line[512];

	CHECK(maps);
	while (n < ARRAY_LEN(area) && fgets(line, sizeof(line), maps))
		n += sscanf(line, "%lx-%lx", &area[n].from, &area[n].to) == 2;
	fclose(maps);
	catch_all();
	/* the highest TiB in steps of 16 MiB and around the top, and the holes between our own areas */
	for (at = 0x7f0000000000; at < 0x800000000000; at += 0x1000000) {
		for (i = 0; i < n && (at < area[i].from || at >= area[i].to); i++)
			;
		if (i == n && SIGNAL_OF((void)*(volatile char *)at) == 0)
			readable++;
	}
	for (at = 0x7fffffff0000 - 64 * PAGE; at < 0x7ffffffff000; at += PAGE) {
		for (i = 0; i < n && (at < area[i].from || at >= area[i].to); i++)
			;
		if (i == n && SIGNAL_OF((void)*(volatile char *)at) == 0)
			readable++;
	}
	for (i = 0; i + 1 < n; i++) {
		if (area[i].to < area[i + 1].from && SIGNAL_OF((void)*(volatile char *)area[i].to) == 0)
			readable++;
	}
	CHECK_EQ(readable, 0);
}

TEST(auxiliary_vector)
{
	CHECK_EQ(getauxval(AT_PAGESZ), 4096);
	CHECK(getauxval(AT_SYSINFO_EHDR) != 0);
	CHECK(memcmp((void *)getauxval(AT_SYSINFO_EHDR), "\177ELF", 4) == 0);
	CHECK(strcmp((char *)getauxval(AT_PLATFORM), "x86_64") == 0);
	CHECK(getauxval(AT_RANDOM) != 0);
	struct utsname u;
	CHECK(uname(&u) == 0 && strcmp(u.sysname, "Linux") == 0 && strcmp(u.machine, "x86_64") == 0);
}

static _Atomic int sys_signals;

static void on_sigsys(int sig, siginfo_t *si, void *uc)
{
	(void)sig;
	CHECK_EQ(si->si_code, 1); /* SYS_SECCOMP */
	CHECK_EQ(si->si_syscall, SYS_getuid);
	((ucontext_t *)uc)->uc_mcontext.gregs[REG_RAX] = 1234;
	sys_signals++;
}

TEST(seccomp_inside)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getuid, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getgid, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | 77),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = {ARRAY_LEN(code), code};

	on_signal(SIGSYS, on_sigsys, 0);
	CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) != 0)
		SKIP("no seccomp in this kernel");
	for (int i = 0; i < 100; i++) {
		CHECK_EQ(syscall(SYS_getuid), 1234);
		CHECK(syscall(SYS_getgid) == -1 && errno == 77);
		CHECK_EQ(syscall(SYS_getpid), getpid());
	}
	CHECK_EQ(sys_signals, 100);
}

TEST(cpuid_and_counters)
{
	unsigned int a, b, c, d;

	asm volatile("cpuid" : "=a"(a), "=b"(b), "=c"(c), "=d"(d) : "a"(0), "c"(0));
	CHECK(a >= 1);
	asm volatile("cpuid" : "=a"(a), "=b"(b), "=c"(c), "=d"(d) : "a"(1), "c"(0));
	CHECK(d & (1 << 26)); /* SSE2 */
	if (c & (1 << 27)) {
		asm volatile("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
		CHECK((a & 3) == 3);
	}
	(void)b;
}

int main(int argc, char **argv)
{
	return run_tests(argc, argv);
}
