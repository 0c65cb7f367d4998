# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
# strace and gdb on programs of the guest.

cat >debug.c <<'END'
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
volatile int watched, other;
int leaf(int n) { other += n; return n * 2; }
int middle(int n) { int r = leaf(n + 1); watched = r; return r; }
static void *thread(void *p) { for (;;) { other++; usleep(1000); } return p; }
static volatile int signals;
static void handler(int s) { (void)s; signals++; }
int main(int argc, char **argv)
{
	signal(SIGUSR1, handler);
	if (argc > 1 && !strcmp(argv[1], "spin")) {
		pthread_t t;
		pthread_create(&t, 0, thread, 0);
		for (;;) { middle(1); usleep(500); }
	}
	if (argc > 1 && !strcmp(argv[1], "crash"))
		*(volatile int *)(long)(argc - 2) = 1;
	int sum = 0;
	for (int i = 0; i < 10; i++)
		sum += middle(i);
	raise(SIGUSR1);
	printf("sum %d signals %d\n", sum, signals);
	return 0;
}
END
gcc -g -O0 -o debug debug.c -lpthread || exit 1

script strace 120 <<'END'
strace -f -o s.out sh -c 'echo hello | cat; ls / >/dev/null; kill -USR1 $$ || true' || true
grep -q 'execve(.*cat' s.out
grep -q 'write(1, "hello' s.out
grep -q 'SIGUSR1' s.out
strace -c -f -o c.out /bin/ls -l /usr/bin >/dev/null
grep -q total c.out
strace -e inject=openat:error=ENOENT:when=3+ -o i.out ls / && exit 1
grep -q INJECTED i.out
strace -k -e trace=write ./debug 2>k.out | grep -q 'sum 110 signals 1' || ./debug
# the same program with and without it gives the same result
[ "$(strace -o /dev/null ./debug)" = "$(./debug)" ]
END

script gdb-breakpoints 120 <<'END'
gdb -q -batch -ex 'break leaf' -ex 'run' -ex 'bt' -ex 'info registers rip' -ex 'finish' -ex 'next' -ex 'print watched' \
	-ex 'delete' -ex 'continue' ./debug >g.out 2>&1
cat g.out
grep -q 'Breakpoint 1, leaf (n=1)' g.out
grep -q '#1 .*middle (n=0)' g.out
grep -q '#2 .*main' g.out
grep -q 'Value returned is .* = 2' g.out
grep -q 'SIGUSR1' g.out
END

script gdb-conditional 120 <<'END'
gdb -q -batch -ex 'break leaf if n == 7' -ex run -ex 'print n' -ex 'set var n = 70' -ex 'delete' -ex 'handle SIGUSR1 nostop noprint' -ex continue ./debug >g.out 2>&1
cat g.out
grep -q '\$1 = 7' g.out
grep -q 'sum 236 signals 1' g.out # 110 + 2 * 63
END

script gdb-stepping 300 <<'END'
# 2,000 single steps through libc and the dynamic linker; then the program must end as usual.
cat >g.cmd <<'G'
set pagination off
break main
run
set $i = 0
while $i < 2000
  stepi
  set $i = $i + 1
end
info registers rip eflags
bt
handle SIGUSR1 nostop noprint
continue
G
gdb -q -batch -x g.cmd ./debug >g.out 2>&1
tail -n 12 g.out
grep -q 'sum 110 signals 1' g.out
END

script gdb-stepping-syscalls 300 <<'END'
# Stepping over system calls, forks and signals: each stepi must stop exactly one instruction on.
cat >step.c <<'C'
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <sys/syscall.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>
static volatile int hits;
static void on(int s) { (void)s; hits++; }
int main(void)
{
	pid_t p = fork();
	if (!p) {
		ptrace(PTRACE_TRACEME, 0, 0, 0);
		signal(SIGUSR1, on);
		raise(SIGSTOP);
		for (int i = 0; i < 20; i++) { syscall(SYS_getppid); if (i == 10) raise(SIGUSR1); }
		asm volatile("cpuid" ::"a"(0), "c"(0) : "rbx", "rdx");
		asm volatile("rdtsc" ::: "rax", "rdx");
		asm volatile("pushf; pop %%rax" ::: "rax");
		_exit(hits == 1 ? 7 : 8);
	}
	int st, n = 0, stuck = 0, calls = 0;
	unsigned long last = 0;
	waitpid(p, &st, 0);
	for (;;) {
		struct user_regs_struct r;
		ptrace(PTRACE_GETREGS, p, 0, &r);
		if (r.rip == last && ++stuck > 1000) { printf("stuck at %lx\n", last); return 1; }
		unsigned short op = ptrace(PTRACE_PEEKTEXT, p, r.rip, 0);
		calls += op == 0x050f;
		int jumps = op == 0x050f && r.rax == SYS_rt_sigreturn;
		last = r.rip;
		int sig = WIFSTOPPED(st) && WSTOPSIG(st) != SIGTRAP && WSTOPSIG(st) != SIGSTOP ? WSTOPSIG(st) : 0;
		ptrace(PTRACE_SINGLESTEP, p, 0, sig);
		if (waitpid(p, &st, 0) != p) return 2;
		if (WIFEXITED(st) || WIFSIGNALED(st)) break;
		if (WIFSTOPPED(st) && WSTOPSIG(st) == SIGTRAP && !sig && op == 0x050f && !jumps) {
			ptrace(PTRACE_GETREGS, p, 0, &r);
			if (r.rip != last + 2) { printf("after syscall at %lx: rip %llx\n", last, r.rip); return 3; }
		}
		n++;
	}
	printf("%d steps, %d calls, status %x\n", n, calls, st);
	return !(WIFEXITED(st) && WEXITSTATUS(st) == 7 && n > 400 && calls > 20);
}
C
gcc -O1 -o step step.c && ./step
END

script gdb-watch-software 300 <<'END'
gdb -q -batch -ex 'set can-use-hw-watchpoints 0' -ex 'break middle' -ex run -ex 'watch watched' -ex continue -ex continue -ex 'print watched' ./debug >g.out 2>&1
cat g.out
grep -q 'Watchpoint 2: watched' g.out
grep -q 'New value = 2' g.out
END

script gdb-watch-hardware 120 <<'END'
gdb -q -batch -ex 'break middle' -ex run -ex 'watch watched' -ex continue -ex continue -ex 'print watched' ./debug >g.out 2>&1
cat g.out
grep -q 'Hardware watchpoint 2: watched' g.out
grep -q 'New value = 2' g.out
END

script gdb-attach 120 <<'END'
./debug spin & p=$!
sleep 1
gdb -q -batch -p $p -ex 'info threads' -ex 'thread apply all bt' -ex 'break leaf' -ex continue -ex bt -ex 'print other' -ex detach >g.out 2>&1
cat g.out
grep -q 'Thread .*LWP' g.out
grep -qE 'thread .*p=' g.out
grep -q 'Breakpoint 1, leaf' g.out
kill -0 $p
kill $p
END

script gdb-core 120 <<'END'
ulimit -c unlimited
echo core >/proc/sys/kernel/core_pattern
rm -f core*
./debug crash || true
gdb -q -batch -ex bt -ex 'info registers' ./debug core* >g.out 2>&1
cat g.out
grep -q 'SIGSEGV' g.out
grep -q 'main (argc=2' g.out
gdb -q -batch -ex 'generate-core-file x.core' -ex quit -p $$ >/dev/null 2>&1
[ -s x.core ]
END

DMESG_EXPECTED='debug\[[0-9]*\]: segfault' done_with_checks
