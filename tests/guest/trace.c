// SPDX-License-Identifier: BSD-2-Clause
/* ptrace: what strace and gdb do with a program. */
#include "guest-test.h"

#include <elf.h>
#include <stddef.h>
#include <sys/ptrace.h>
#include <sys/reg.h>
#include <sys/uio.h>
#include <sys/user.h>

static volatile long watched;
static volatile long called_with;

static long __attribute__((noinline)) breakpoint_here(long n)
{
	called_with = n;
	return n * 2;
}

static pid_t start_child(void (*body)(void))
{
	pid_t pid = fork_ok();

	if (pid == 0) {
		CHECK(ptrace(PTRACE_TRACEME, 0, NULL, NULL) == 0);
		raise(SIGSTOP);
		body();
		_exit(0);
	}
	int st;
	CHECK_EQ(waitpid(pid, &st, 0), pid);
	CHECK(WIFSTOPPED(st) && WSTOPSIG(st) == SIGSTOP);
	return pid;
}

static int wait_stop(pid_t pid)
{
	int st;

	CHECK_EQ(waitpid(pid, &st, 0), pid);
	return st;
}

static void run_to_end(pid_t pid)
{
	CHECK(ptrace(PTRACE_CONT, pid, NULL, NULL) == 0);
	CHECK_EQ(wait_stop(pid), 0);
}

static void loop_body(void)
{
	long n = 0;

	asm volatile("mov $100, %%ecx\n1:\tinc %0\n\tloop 1b" : "+r"(n) : : "rcx", "cc");
	CHECK_EQ(n, 100);
	getppid();
	CHECK_EQ(breakpoint_here(5), 10);
}

TEST(single_step)
{
	pid_t pid = start_child(loop_body);
	struct user_regs_struct r, last;
	long steps = 0;
	int st;

	CHECK(ptrace(PTRACE_GETREGS, pid, NULL, &last) == 0);
	for (;;) {
		CHECK(ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL) == 0);
		st = wait_stop(pid);
		if (WIFEXITED(st))
			break;
		CHECK(WIFSTOPPED(st) && WSTOPSIG(st) == SIGTRAP);
		CHECK(ptrace(PTRACE_GETREGS, pid, NULL, &r) == 0);
		CHECK_EQ(r.eflags & 0x100, 0); /* the tracer's flag does not show */
		last = r;
		steps++;
		CHECK(steps < 100000);
	}
	CHECK_EQ(st, 0);
	CHECK(steps > 200);
	printf("# %ld steps\n", steps);
}

static void calls_body(void)
{
	syscall(SYS_getppid);
	syscall(SYS_getuid);
	syscall(SYS_write, -1, "x", 1);
	CHECK_EQ(syscall(SYS_getppid), 4242);    /* changed by the tracer */
	CHECK_EQ(syscall(SYS_getgid), getpid()); /* the tracer made another call of it */
}

TEST(system_calls)
{
	pid_t pid = start_child(calls_body);
	long seen[64] = {0}, n = 0;
	struct user_regs_struct r;
	int ppids = 0;

	CHECK(ptrace(PTRACE_SETOPTIONS, pid, NULL, PTRACE_O_TRACESYSGOOD) == 0);
	for (bool entry = true;; entry = !entry) {
		CHECK(ptrace(PTRACE_SYSCALL, pid, NULL, NULL) == 0);
		int st = wait_stop(pid);
		if (WIFEXITED(st)) {
			CHECK_EQ(st, 0);
			break;
		}
		CHECK_EQ(WSTOPSIG(st), SIGTRAP | 0x80);
		CHECK(ptrace(PTRACE_GETREGS, pid, NULL, &r) == 0);
		if (entry) {
			CHECK_EQ(r.rax, -ENOSYS);
			if (n < 64)
				seen[n++] = (long)r.orig_rax;
			if (r.orig_rax == SYS_getppid)
				ppids++;
			if (r.orig_rax == SYS_getgid) {
				r.orig_rax = SYS_getpid;
				CHECK(ptrace(PTRACE_SETREGS, pid, NULL, &r) == 0);
			}
		} else {
			if (r.orig_rax == SYS_write)
				CHECK_EQ(r.rax, -EBADF);
			if (r.orig_rax == SYS_getppid && ppids == 2) {
				r.rax = 4242;
				CHECK(ptrace(PTRACE_SETREGS, pid, NULL, &r) == 0);
			}
		}
	}
	CHECK_EQ(seen[0], SYS_getppid);
	CHECK_EQ(seen[1], SYS_getuid);
	CHECK_EQ(seen[2], SYS_write);
}

TEST(software_breakpoint)
{
	pid_t pid = start_child(loop_body);
	struct user_regs_struct r;
	unsigned long at = (unsigned long)breakpoint_here;

	errno = 0;
	long text = ptrace(PTRACE_PEEKTEXT, pid, at, NULL);
	CHECK_EQ(errno, 0);
	CHECK(ptrace(PTRACE_POKETEXT, pid, at, (text & ~0xffl) | 0xcc) == 0);
	CHECK_EQ(*(unsigned char *)at, text & 0xff); /* ours is another copy */
	CHECK(ptrace(PTRACE_CONT, pid, NULL, NULL) == 0);
	int st = wait_stop(pid);
	CHECK(WIFSTOPPED(st) && WSTOPSIG(st) == SIGTRAP);
	CHECK(ptrace(PTRACE_GETREGS, pid, NULL, &r) == 0);
	CHECK_EQ(r.rip, at + 1);
	CHECK_EQ(r.rdi, 5);
	CHECK(ptrace(PTRACE_POKETEXT, pid, at, text) == 0);
	r.rip = at;
	CHECK(ptrace(PTRACE_SETREGS, pid, NULL, &r) == 0);
	run_to_end(pid);
}

static void watch_body(void)
{
	for (long i = 0; i < 10; i++) {
		called_with = i;
		if (i == 6)
			watched = 66;
	}
	CHECK_EQ(watched, 66);
}

static long set_debug_register(pid_t pid, int n, unsigned long value)
{
	return ptrace(PTRACE_POKEUSER, pid, offsetof(struct user, u_debugreg) + (unsigned long)n * 8, value);
}

TEST(hardware_watchpoint)
{
	pid_t pid = start_child(watch_body);

	watched = 0;
	if (set_debug_register(pid, 0, (unsigned long)&watched) != 0 ||
	    set_debug_register(pid, 7, 1 | 1 << 16 | 3 << 18) != 0) {
		kill(pid, SIGKILL);
		SKIP("no debug registers");
	}
	CHECK(ptrace(PTRACE_CONT, pid, NULL, NULL) == 0);
	int st = wait_stop(pid);
	CHECK(WIFSTOPPED(st) && WSTOPSIG(st) == SIGTRAP);
	unsigned long dr6 =
		(unsigned long)ptrace(PTRACE_PEEKUSER, pid, offsetof(struct user, u_debugreg) + 6 * 8, NULL);
	CHECK_EQ(dr6 & 15, 1);
	CHECK_EQ(ptrace(PTRACE_PEEKDATA, pid, &watched, NULL), 66);
	CHECK_EQ(ptrace(PTRACE_PEEKDATA, pid, &called_with, NULL), 6);
	CHECK(set_debug_register(pid, 7, 0) == 0);
	run_to_end(pid);
}

TEST(hardware_breakpoint)
{
	pid_t pid = start_child(loop_body);
	struct user_regs_struct r;

	if (set_debug_register(pid, 1, (unsigned long)breakpoint_here) != 0 ||
	    set_debug_register(pid, 7, 1 << 2) != 0) {
		kill(pid, SIGKILL);
		SKIP("no debug registers");
	}
	CHECK(ptrace(PTRACE_CONT, pid, NULL, NULL) == 0);
	int st = wait_stop(pid);
	CHECK(WIFSTOPPED(st) && WSTOPSIG(st) == SIGTRAP);
	CHECK(ptrace(PTRACE_GETREGS, pid, NULL, &r) == 0);
	CHECK_EQ(r.rip, (unsigned long)breakpoint_here);
	run_to_end(pid); /* past it: the resume flag */
}

static void vector_body(void)
{
	uint64_t in[2] = {0x1111222233334444, 0x5555666677778888}, out[2];

	asm volatile("movdqu %1, %%xmm5\n\tint3\n\tmovdqu %%xmm5, %0" : "=m"(out) : "m"(in) : "xmm5", "memory");
	CHECK_EQ(out[0], 0xdeadbeef);
	CHECK_EQ(out[1], 0x5555666677778888);
}

TEST(vector_registers)
{
	pid_t pid = start_child(vector_body);
	struct user_fpregs_struct fp;
	static uint8_t xstate[16384];
	struct iovec iov = {xstate, sizeof(xstate)};

	CHECK(ptrace(PTRACE_CONT, pid, NULL, NULL) == 0);
	int st = wait_stop(pid);
	CHECK(WIFSTOPPED(st) && WSTOPSIG(st) == SIGTRAP);
	CHECK(ptrace(PTRACE_GETFPREGS, pid, NULL, &fp) == 0);
	CHECK_EQ(*(uint64_t *)&fp.xmm_space[5 * 4], 0x1111222233334444);
	CHECK(ptrace(PTRACE_GETREGSET, pid, NT_X86_XSTATE, &iov) == 0);
	CHECK(iov.iov_len >= 512);
	CHECK_EQ(*(uint64_t *)(xstate + 160 + 5 * 16), 0x1111222233334444);
	*(uint64_t *)&fp.xmm_space[5 * 4] = 0xdeadbeef;
	CHECK(ptrace(PTRACE_SETFPREGS, pid, NULL, &fp) == 0);
	run_to_end(pid);
}

static void signal_body(void)
{
	for (int i = 0; i < 3; i++)
		raise(SIGUSR1);
	kill(getpid(), SIGUSR2);
}

TEST(signals_and_injection)
{
	pid_t pid = start_child(signal_body);
	siginfo_t si;

	for (int i = 0; i < 3; i++) {
		CHECK(ptrace(PTRACE_CONT, pid, NULL, NULL) == 0);
		int st = wait_stop(pid);
		CHECK(WIFSTOPPED(st) && WSTOPSIG(st) == SIGUSR1);
		CHECK(ptrace(PTRACE_GETSIGINFO, pid, NULL, &si) == 0);
		CHECK_EQ(si.si_signo, SIGUSR1);
	}
	CHECK(ptrace(PTRACE_CONT, pid, NULL, NULL) == 0);
	CHECK_EQ(WSTOPSIG(wait_stop(pid)), SIGUSR2);
	CHECK(ptrace(PTRACE_CONT, pid, NULL, SIGTERM) == 0);
	int st = wait_stop(pid);
	CHECK(WIFSIGNALED(st) && WTERMSIG(st) == SIGTERM);
}

static void fork_body(void)
{
	pid_t pid = fork();

	if (pid == 0)
		_exit(0);
	wait_ok(pid);
}

TEST(follows_forks)
{
	pid_t pid = start_child(fork_body);
	unsigned long child;

	CHECK(ptrace(PTRACE_SETOPTIONS, pid, NULL, PTRACE_O_TRACEFORK | PTRACE_O_TRACEEXIT) == 0);
	CHECK(ptrace(PTRACE_CONT, pid, NULL, NULL) == 0);
	int st = wait_stop(pid);
	CHECK_EQ(st >> 8, SIGTRAP | PTRACE_EVENT_FORK << 8);
	CHECK(ptrace(PTRACE_GETEVENTMSG, pid, NULL, &child) == 0);
	CHECK_EQ(waitpid((pid_t)child, &st, __WALL), child);
	CHECK(WIFSTOPPED(st));
	CHECK(ptrace(PTRACE_DETACH, child, NULL, NULL) == 0);
	for (;;) {
		CHECK(ptrace(PTRACE_CONT, pid, NULL, WIFSTOPPED(st) && WSTOPSIG(st) == SIGCHLD ? SIGCHLD : 0) == 0);
		st = wait_stop(pid);
		if (WIFEXITED(st))
			break;
	}
	CHECK_EQ(st, 0);
}

TEST(attach_to_a_running_process)
{
	volatile unsigned long *spin = map_shared(PAGE);
	pid_t pid = fork_ok();
	struct user_regs_struct r;

	if (pid == 0)
		for (;;)
			spin[0]++;
	for (int i = 0; i < 10; i++) {
		while (spin[0] == 0)
			sched_yield();
		CHECK(ptrace(PTRACE_ATTACH, pid, NULL, NULL) == 0);
		int st = wait_stop(pid);
		CHECK(WIFSTOPPED(st));
		unsigned long at = spin[0];
		sleep_ms(10);
		CHECK_EQ(spin[0], at); /* it really stands */
		CHECK(ptrace(PTRACE_GETREGS, pid, NULL, &r) == 0);
		CHECK(r.rip && r.rsp);
		spin[0] = 0;
		CHECK(ptrace(PTRACE_DETACH, pid, NULL, NULL) == 0);
	}
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

static void base_body(void)
{
	asm volatile("int3");
	CHECK_EQ(errno, errno);
}

TEST(bad_registers_are_refused)
{
	pid_t pid = start_child(base_body);
	struct user_regs_struct r, good;

	CHECK(ptrace(PTRACE_CONT, pid, NULL, NULL) == 0);
	wait_stop(pid);
	CHECK(ptrace(PTRACE_GETREGS, pid, NULL, &good) == 0);
	r = good;
	r.cs = 0x10; /* the kernel's */
	CHECK(ptrace(PTRACE_SETREGS, pid, NULL, &r) == -1);
	r = good;
	r.fs_base = 0xffff800000000000;
	CHECK(ptrace(PTRACE_SETREGS, pid, NULL, &r) == -1);
	/* rflags: what user code may not change stays as it is */
	r = good;
	r.eflags |= 0x3000; /* IOPL 3 */
	CHECK(ptrace(PTRACE_SETREGS, pid, NULL, &r) == 0);
	CHECK(ptrace(PTRACE_GETREGS, pid, NULL, &r) == 0);
	CHECK_EQ(r.eflags & 0x3000, 0);
	CHECK(ptrace(PTRACE_SETREGS, pid, NULL, &good) == 0);
	/* a jump to nowhere is the tracee's own fault */
	r = good;
	r.rip = 0xffffffff81000000;
	CHECK(ptrace(PTRACE_SETREGS, pid, NULL, &r) == 0);
	CHECK(ptrace(PTRACE_CONT, pid, NULL, NULL) == 0);
	int st = wait_stop(pid);
	CHECK(WIFSTOPPED(st) && WSTOPSIG(st) == SIGSEGV);
	CHECK(ptrace(PTRACE_SETREGS, pid, NULL, &good) == 0);
	run_to_end(pid);
}

int main(int argc, char **argv)
{
	return run_tests(argc, argv);
}
