// SPDX-License-Identifier: BSD-2-Clause
/* Processes: fork, vfork, exec, wait, exit; storms of them; what /proc says of them. */
#include "guest-test.h"

#include <spawn.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>

static const char *self = "/proc/self/exe";

TEST(fork_return_values)
{
	pid_t me = getpid();

	for (int i = 0; i < 50; i++) {
		pid_t pid = fork_ok();
		if (pid == 0) {
			CHECK_EQ(getppid(), me);
			CHECK(getpid() != me);
			_exit(i);
		}
		int st;
		CHECK_EQ(waitpid(pid, &st, 0), pid);
		CHECK(WIFEXITED(st));
		CHECK_EQ(WEXITSTATUS(st), i);
	}
	CHECK(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD);
}

TEST_LIMIT(fork_storm, 180)
{
	/* 400 processes in batches of 40, each touching its own copy of a page. */
	volatile int *page = map_rw(PAGE);

	for (int batch = 0; batch < 10; batch++) {
		pid_t pids[40];

		*page = batch;
		for (size_t i = 0; i < ARRAY_LEN(pids); i++) {
			pids[i] = fork_ok();
			if (pids[i] == 0) {
				CHECK_EQ(*page, batch);
				*page = (int)i + 1000;
				sched_yield();
				CHECK_EQ(*page, (int)i + 1000);
				_exit((int)i);
			}
		}
		for (size_t i = 0; i < ARRAY_LEN(pids); i++) {
			int st;
			CHECK_EQ(waitpid(pids[i], &st, 0), pids[i]);
			CHECK_EQ(WEXITSTATUS(st), i);
		}
		CHECK_EQ(*page, batch);
	}
}

static int fork_tree(int depth)
{
	int sum = 1;

	for (int i = 0; depth && i < 2; i++) {
		int st;
		pid_t pid = fork_ok();
		if (pid == 0)
			_exit(fork_tree(depth - 1));
		CHECK_EQ(waitpid(pid, &st, 0), pid);
		CHECK(WIFEXITED(st));
		sum += WEXITSTATUS(st);
	}
	return sum;
}

TEST(fork_tree)
{
	CHECK_EQ(fork_tree(6), 127);
}

TEST(exec_arguments)
{
	/* exec of ourselves: main() handles --echo. */
	int fd[2];
	char big[100000], got[200000];
	size_t n = 0;

	memset(big, 'x', sizeof(big) - 1);
	big[sizeof(big) - 1] = 0;
	CHECK(pipe(fd) == 0);
	pid_t pid = fork_ok();
	if (pid == 0) {
		dup2(fd[1], 1);
		close(fd[0]);
		execle(self, "proc", "--echo", "", "a b", big, NULL, (char *[]){"V=1", "EMPTY=", NULL});
		_exit(126);
	}
	close(fd[1]);
	for (ssize_t r; (r = read(fd[0], got + n, sizeof(got) - n)) > 0;)
		n += (size_t)r;
	wait_ok(pid);
	CHECK_EQ(n, 1 + 4 + sizeof(big) + 4 + 7);
	CHECK(memcmp(got, "\na b\n", 5) == 0);
	CHECK(memcmp(got + 5, big, sizeof(big) - 1) == 0);
	CHECK(memcmp(got + n - 11, "V=1\nEMPTY=\n", 11) == 0);
}

TEST_LIMIT(exec_storm, 180)
{
	for (int i = 0; i < 150; i++) {
		int st;
		char arg[16];
		snprintf(arg, sizeof(arg), "%d", i);
		pid_t pid = i % 2 ? vfork() : fork();
		CHECK(pid >= 0);
		if (pid == 0) {
			execl(self, "proc", "--exit", arg, NULL);
			_exit(255);
		}
		CHECK_EQ(waitpid(pid, &st, 0), pid);
		CHECK_EQ(WEXITSTATUS(st), i);
	}
}

TEST(exec_errors)
{
	CHECK(execl("/nothing", "x", NULL) == -1 && errno == ENOENT);
	CHECK(execl("/", "x", NULL) == -1 && errno == EACCES);
	CHECK(syscall(SYS_execve, 8, NULL, NULL) == -1 && errno == EFAULT);
	char path[] = "/tmp/exec-errors-XXXXXX";
	int fd = mkstemp(path);
	CHECK(fd >= 0);
	CHECK(write(fd, "\177ELF nonsense", 13) == 13);
	CHECK(fchmod(fd, 0755) == 0);
	close(fd);
	CHECK(execl(path, "x", NULL) == -1 && errno == ENOEXEC);
	unlink(path);
}

TEST(exec_script_and_fd)
{
	int fd = memfd_create("copy", 0), st;
	int me = open(self, O_RDONLY);
	char buf[65536];

	CHECK(fd >= 0 && me >= 0);
	for (ssize_t n; (n = read(me, buf, sizeof(buf))) > 0;)
		CHECK(write(fd, buf, (size_t)n) == n);
	pid_t pid = fork_ok();
	if (pid == 0) {
		fexecve(fd, (char *[]){"memfd", "--exit", "33", NULL}, (char *[]){NULL});
		_exit(255);
	}
	CHECK_EQ(waitpid(pid, &st, 0), pid);
	CHECK_EQ(WEXITSTATUS(st), 33);
}

TEST(vfork_shares_memory)
{
	volatile int value = 1;
	int st;
	pid_t pid = vfork();

	CHECK(pid >= 0);
	if (pid == 0) {
		value = 2;
		_exit(5);
	}
	CHECK_EQ(value, 2);
	CHECK_EQ(waitpid(pid, &st, 0), pid);
	CHECK_EQ(WEXITSTATUS(st), 5);
}

TEST(posix_spawn)
{
	for (int i = 0; i < 20; i++) {
		pid_t pid;
		int st;
		char *argv[] = {"proc", "--exit", "7", NULL};
		CHECK_EQ(posix_spawn(&pid, self, NULL, NULL, argv, environ), 0);
		CHECK_EQ(waitpid(pid, &st, 0), pid);
		CHECK_EQ(WEXITSTATUS(st), 7);
	}
}

TEST(orphans_get_a_new_parent)
{
	int fd[2];
	pid_t first, grandchild;

	CHECK(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0);
	CHECK(pipe(fd) == 0);
	first = fork_ok();
	if (first == 0) {
		pid_t pid = fork_ok();
		if (pid == 0) {
			while (getppid() == first || getppid() == (pid_t)1)
				sched_yield();
			sleep_ms(20);
			_exit(44);
		}
		CHECK(write(fd[1], &pid, sizeof(pid)) == sizeof(pid));
		_exit(0);
	}
	CHECK(read(fd[0], &grandchild, sizeof(grandchild)) == sizeof(grandchild));
	wait_ok(first);
	int st;
	CHECK_EQ(waitpid(grandchild, &st, 0), grandchild);
	CHECK_EQ(WEXITSTATUS(st), 44);
}

TEST(wait_forms)
{
	int st;
	siginfo_t si;
	struct rusage ru;
	pid_t pid = fork_ok();

	if (pid == 0) {
		raise(SIGSTOP);
		volatile unsigned long spin = 0;
		for (int i = 0; i < 3000000; i++)
			spin += (unsigned long)i;
		raise(SIGKILL);
	}
	CHECK_EQ(waitpid(pid, &st, WUNTRACED), pid);
	CHECK(WIFSTOPPED(st) && WSTOPSIG(st) == SIGSTOP);
	kill(pid, SIGCONT);
	CHECK_EQ(waitpid(pid, &st, WCONTINUED), pid);
	CHECK(WIFCONTINUED(st));
	CHECK(waitid(P_PID, (id_t)pid, &si, WEXITED | WNOWAIT) == 0);
	CHECK_EQ(si.si_code, CLD_KILLED);
	CHECK_EQ(si.si_status, SIGKILL);
	CHECK_EQ(wait4(pid, &st, 0, &ru), pid);
	CHECK(WIFSIGNALED(st) && WTERMSIG(st) == SIGKILL);
}

TEST(many_processes_alive)
{
	enum { COUNT = 200 };
	int go[2], up[2];
	char c;

	CHECK(pipe(go) == 0 && pipe(up) == 0);
	for (int i = 0; i < COUNT; i++) {
		if (fork_ok() == 0) {
			close(go[1]);
			CHECK(write(up[1], "u", 1) == 1);
			CHECK(read(go[0], &c, 1) == 0); /* until the parent closes it */
			_exit(0);
		}
	}
	for (int i = 0; i < COUNT; i++)
		CHECK(read(up[0], &c, 1) == 1);
	close(go[1]);
	for (int i = 0; i < COUNT; i++) {
		int st;
		CHECK(wait(&st) > 0);
		CHECK_EQ(st, 0);
	}
}

TEST(pipe_ring)
{
	/* A token goes 200 times around a ring of 8 processes. */
	enum { PROCS = 8, ROUNDS = 200 };
	int fd[PROCS][2];
	unsigned int token = 0;

	for (int i = 0; i < PROCS; i++)
		CHECK(pipe(fd[i]) == 0);
	for (int i = 1; i < PROCS; i++) {
		if (fork_ok() == 0) {
			for (int r = 0; r < ROUNDS; r++) {
				CHECK(read(fd[i - 1][0], &token, sizeof(token)) == sizeof(token));
				token++;
				CHECK(write(fd[i][1], &token, sizeof(token)) == sizeof(token));
			}
			_exit(0);
		}
	}
	for (int r = 0; r < ROUNDS; r++) {
		CHECK(write(fd[0][1], &token, sizeof(token)) == sizeof(token));
		CHECK(read(fd[PROCS - 1][0], &token, sizeof(token)) == sizeof(token));
	}
	CHECK_EQ(token, (PROCS - 1) * ROUNDS);
	for (int i = 1; i < PROCS; i++)
		CHECK(wait(NULL) > 0);
}

static unsigned long recurse(unsigned int depth)
{
	volatile char frame[1024];

	frame[0] = (char)depth;
	frame[1023] = (char)(depth >> 8);
	unsigned long below = depth ? recurse(depth - 1) : 0;
	CHECK_EQ((unsigned char)frame[0], depth & 0xff);
	return below + 1;
}

TEST(stack_grows)
{
	CHECK_EQ(recurse(4000), 4001); /* more than 4 MiB */
}

TEST(proc_self)
{
	char buf[65536], *line;
	FILE *f = fopen("/proc/self/maps", "r");
	bool stack = false, heap = false, vdso = false, text = false;

	free(malloc(100));
	CHECK(f);
	while ((line = fgets(buf, sizeof(buf), f))) {
		unsigned long from, to;
		CHECK(sscanf(line, "%lx-%lx", &from, &to) == 2 && from < to);
		stack |= from <= (unsigned long)&f && (unsigned long)&f < to;
		heap |= strstr(line, "[heap]") != NULL;
		vdso |= strstr(line, "[vdso]") != NULL;
		text |= from <= (unsigned long)&recurse && (unsigned long)&recurse < to;
	}
	fclose(f);
	CHECK(stack && text && vdso && heap);

	static const char *const files[] = {"stat",    "status",    "statm",   "smaps",    "smaps_rollup", "cmdline",
					    "environ", "auxv",      "io",      "limits",   "sched",        "schedstat",
					    "wchan",   "mountinfo", "pagemap", "numa_maps"};
	for (size_t i = 0; i < ARRAY_LEN(files); i++) {
		char path[64];
		snprintf(path, sizeof(path), "/proc/self/%s", files[i]);
		int fd = open(path, O_RDONLY);
		if (fd < 0)
			continue; /* depends on the kernel's configuration */
		ssize_t n = read(fd, buf, 4096);
		CHECK(n >= 0);
		close(fd);
	}
	int fd = open("/proc/self/mem", O_RDWR);
	volatile long cell = 42;
	long value;
	CHECK(fd >= 0);
	CHECK_EQ(pread(fd, &value, sizeof(value), (off_t)(uintptr_t)&cell), sizeof(value));
	CHECK_EQ(value, 42);
	value = 43;
	CHECK_EQ(pwrite(fd, &value, sizeof(value), (off_t)(uintptr_t)&cell), sizeof(value));
	CHECK_EQ(cell, 43);
}

static int set_two(void *arg)
{
	*(int *)arg = 2;
	return 9;
}

TEST(clone_flags)
{
	static char stack[65536] __attribute__((aligned(16)));
	int value = 1, st;
	pid_t pid = clone(set_two, stack + sizeof(stack), CLONE_VM | SIGCHLD, &value);
	CHECK(pid > 0);
	CHECK_EQ(waitpid(pid, &st, 0), pid);
	CHECK_EQ(WEXITSTATUS(st), 9);
	CHECK_EQ(value, 2);
	value = 1;
	pid = clone(set_two, stack + sizeof(stack), SIGCHLD, &value);
	CHECK_EQ(waitpid(pid, &st, 0), pid);
	CHECK_EQ(value, 1);
}

TEST(exit_with_threads_of_memory)
{
	/* Address spaces that are big when they die. */
	for (int i = 0; i < 5; i++) {
		pid_t pid = fork_ok();
		if (pid == 0) {
			char *p = map_rw(32 << 20);
			for (size_t at = 0; at < 32 << 20; at += PAGE)
				p[at] = (char)at;
			_exit(0);
		}
		wait_ok(pid);
	}
}

/* A page of code with a system call that nobody has made before. */
static long fresh_call(void)
{
	static const unsigned char code[] = {0xb8, SYS_getppid, 0, 0, 0, 0x0f, 0x05, 0x41, 0xb8, 1, 2, 3, 4, 0xc3};
	unsigned char *p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	long ret = 0;

	memcpy(p, code, sizeof(code));
	mprotect(p, PAGE, PROT_READ | PROT_EXEC);
	for (int i = 0; i < 5; i++)
		ret = ((long (*)(void))(uintptr_t)p)();
	munmap(p, PAGE);
	return ret;
}

/* Address spaces come and go in what runs them on the host: more at work at once than there is room for. */
TEST_LIMIT(many_at_work, 240)
{
	enum { MANY = 300 };
	pid_t child[MANY];
	int go[2];

	CHECK(pipe(go) == 0);
	for (int i = 0; i < MANY; i++) {
		child[i] = fork();
		CHECK(child[i] >= 0);
		if (child[i])
			continue;
		char c;
		close(go[1]);
		if (read(go[0], &c, 1) != 0)
			_exit(1);
		for (int k = 0; k < 100; k++) {
			for (int n = 0; n < 50; n++)
				if (getppid() <= 0)
					_exit(2);
			if (fresh_call() <= 0)
				_exit(3);
			sleep_ms(k % 3);
		}
		_exit(0);
	}
	close(go[1]);
	close(go[0]);
	for (int i = 0; i < MANY; i++) {
		int status;
		CHECK(waitpid(child[i], &status, 0) == child[i]);
		CHECK_EQ(status, 0);
	}
}

int main(int argc, char **argv)
{
	if (argc > 2 && strcmp(argv[1], "--exit") == 0)
		return atoi(argv[2]);
	if (argc > 1 && strcmp(argv[1], "--echo") == 0) {
		for (int i = 2; i < argc; i++)
			puts(argv[i]);
		for (char **e = environ; *e; e++)
			puts(*e);
		return 0;
	}
	return run_tests(argc, argv);
}
