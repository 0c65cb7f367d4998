/* SPDX-License-Identifier: BSD-2-Clause */
/* Programs that take all they can get: more mappings than a process of the host can have, more processes than there is room for. */
#include "guest-test.h"

#include <dirent.h>
#include <sys/stat.h>
#include <sys/utsname.h>

static bool in_a_guest_as_root(void)
{
	struct utsname name;
	return !geteuid() && !uname(&name) && strstr(name.release, "-lol");
}

/* Half of the memory that is free now, at most 480 MiB, in pages. */
static size_t half_of_memory(void)
{
	size_t free_pages = (size_t)sysconf(_SC_AVPHYS_PAGES) / 2;
	return free_pages < 120000 ? free_pages : 120000;
}

/* Every second page: none of them continues its neighbour. A host process has 65530 mappings. */
TEST_LIMIT(scattered_pages, 240)
{
	size_t n = half_of_memory();
	uint64_t *p =
		mmap(NULL, n * 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	CHECK(p != MAP_FAILED);
	madvise(p, n * 2 * PAGE, MADV_NOHUGEPAGE);
	for (int round = 1; round <= 2; round++) {
		for (size_t i = 0; i < n; i++)
			p[i * 1024] += i + 1;
		for (size_t i = n; i-- > 0;)
			CHECK_EQ(p[i * 1024], (i + 1) * (size_t)round);
	}
	for (size_t i = 0; i < n; i += 1000)
		CHECK_EQ(p[i * 1024 + 512], 0);
	munmap(p, n * 2 * PAGE);
}

static void write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		SKIP("this needs root");
	close(fd);
}

static volatile int faults;
static void on_fault(int sig, siginfo_t *si, void *context)
{
	(void)sig;
	(void)context;
	faults++;
	mprotect((void *)((uintptr_t)si->si_addr & ~(PAGE - 1)), PAGE, PROT_READ | PROT_WRITE);
}

/* As many mappings of the guest's as it allows, each next to one of other rights. */
TEST_LIMIT(alternating_rights, 240)
{
	size_t n = 80000;
	struct sigaction sa = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};

	if (half_of_memory() * 2 < n + 20000)
		SKIP("too little memory");
	write_text("/proc/sys/vm/max_map_count", "200000");
	sigaction(SIGSEGV, &sa, NULL);
	uint8_t *p = mmap(NULL, n * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(p != MAP_FAILED);
	for (size_t i = 0; i < n; i++)
		p[i * PAGE] = (uint8_t)(i * 7);
	for (size_t i = 0; i < n; i += 2)
		CHECK(mprotect(p + i * PAGE, PAGE, PROT_READ) == 0);
	for (size_t i = 0; i < n; i++)
		CHECK_EQ(p[i * PAGE], (uint8_t)(i * 7));
	for (size_t i = 0; i < n; i += 100) {
		p[i * PAGE] = 1;
		CHECK_EQ(faults, (int)(i / 100 + 1));
	}
	write_text("/proc/sys/vm/max_map_count", "65530");
}

static int bomb(void *arg)
{
	(void)arg;
	for (;;)
		fork();
	return 0;
}

/* In a PID namespace of its own, which ends it; afterwards there is room again. */
TEST_LIMIT(fork_bomb, 240)
{
	static uint8_t stack[65536] __attribute__((aligned(16)));
	pid_t pid;

	if (!in_a_guest_as_root())
		SKIP("only in a guest, as root");
	/* Memory for them is not the question: without a limit the guest's own killer would choose who is to go. */
	write_text("/proc/sys/kernel/threads-max", "800");
	pid = clone(bomb, stack + sizeof(stack), CLONE_NEWPID | SIGCHLD, NULL);
	if (pid < 0)
		SKIP("no PID namespaces");
	sleep_ms(4000);
	CHECK(kill(pid, SIGKILL) == 0);
	CHECK(waitpid(pid, NULL, 0) == pid);
	for (int i = 0; i < 200; i++) {
		int status;
		pid_t child = fork();
		CHECK(child >= 0);
		if (child == 0)
			_exit(7);
		CHECK(waitpid(child, &status, 0) == child);
		CHECK_EQ(WEXITSTATUS(status), 7);
	}
	write_text("/proc/sys/kernel/threads-max", "4000");
}

/* Timers as fast as they go, on every CPU; other work goes on. */
TEST_LIMIT(flood_of_timers, 120)
{
	struct timespec start, now_;
	volatile uint64_t work = 0;

	for (int i = 0; i < 50; i++) {
		timer_t t;
		struct sigevent se = {.sigev_notify = SIGEV_NONE};
		struct itimerspec its = {{0, 20000}, {0, 20000}};
		CHECK(timer_create(CLOCK_MONOTONIC, &se, &t) == 0);
		CHECK(timer_settime(t, 0, &its, NULL) == 0);
	}
	clock_gettime(CLOCK_MONOTONIC, &start);
	do {
		for (int i = 0; i < 1000; i++)
			work++;
		clock_gettime(CLOCK_MONOTONIC, &now_);
	} while (now_.tv_sec - start.tv_sec < 2);
	CHECK(work > 1000);
}

/* Every device file and every register of the devices that sysfs shows: opened, read, mapped, held open all at once. */
static unsigned take(const char *dir, bool devices)
{
	DIR *d = opendir(dir);
	unsigned n = 0;

	for (struct dirent *e; d && (e = readdir(d));) {
		char path[PATH_MAX], buf[4096];
		struct stat st;
		if (e->d_name[0] == '.' || snprintf(path, sizeof(path), "%s/%s", dir, e->d_name) >= (int)sizeof(path) ||
		    lstat(path, &st))
			continue;
		if (S_ISDIR(st.st_mode))
			n += take(path, devices);
		if (devices ? !S_ISCHR(st.st_mode) && !S_ISBLK(st.st_mode) : !S_ISREG(st.st_mode))
			continue;
		pid_t pid = fork(); /* some would wait for ever */
		if (pid == 0) {
			alarm(1);
			int fd = open(path, (devices ? O_RDWR : O_RDONLY) | O_NONBLOCK | O_NOCTTY);
			if (fd < 0)
				_exit(1);
			if (read(fd, buf, sizeof(buf)) < 0 && errno == EFAULT)
				_exit(2);
			void *p = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0);
			_exit(p != MAP_FAILED && *(volatile char *)p == 1 ? 3 : 0);
		}
		int status;
		CHECK(waitpid(pid, &status, 0) == pid);
		if (devices)
			open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY); /* kept */
		n++;
	}
	if (d)
		closedir(d);
	return n;
}

TEST_LIMIT(every_device, 240)
{
	if (!in_a_guest_as_root())
		SKIP("only in a guest, as root");
	CHECK(take("/dev", true) > 10);
	take("/sys/devices/platform", false);
	for (int i = 0; i < 20; i++) { /* the guest goes on */
		int status;
		pid_t pid = fork();
		if (pid == 0)
			_exit(7);
		CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 7);
	}
}

int main(int argc, char **argv)
{
	return run_tests(argc, argv);
}
