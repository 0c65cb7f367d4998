// SPDX-License-Identifier: BSD-2-Clause
//
// micro: what single operations cost, in nanoseconds. One static binary for every world (native, UML, QEMU, LoL), so that
// differences are the kernel's and the hypervisor's, not the compiler's. It knows nothing of the worlds.
//
//   micro list             the names of the rows
//   micro ROW [MS]         "NS MIN MAX COUNT CHECK TOTAL": the median, least and greatest of several batches, in ns an operation, each
//                          batch at least MS ms long (default 20); the operations of a batch; a number that must be the
//                          same wherever this runs; and the operations of all batches, warm-up included
//   micro off              reboot(RB_POWER_OFF), for guests
//
// Every row checks what its operations returned; a wrong result is exit status 1 and a line on stderr. A row that this CPU
// cannot run is status 77. Files are made in the current directory.

#include <errno.h>
#include <fcntl.h>
#include <immintrin.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define BATCHES 7
#define PAGE 4096UL
#define MIB (1UL << 20)
#define ANON_BYTES (32 * MIB)
#define FILE_BYTES (16 * MIB)
#define FILE_NAME "micro.data"
#define STATUS_SKIPPED 77
#define STATUS_OF_CHILD 7

static const char *row_name = "micro";
static const char *self;

__attribute__((noreturn, format(printf, 1, 2))) static void fail(const char *format, ...)
{
	va_list arguments;
	fprintf(stderr, "micro: %s: ", row_name);
	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	fputc('\n', stderr);
	exit(1);
}

static void must(bool ok, const char *what)
{
	if (!ok)
		fail("%s: %s", what, strerror(errno));
}

static uint64_t now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

// ---- rows: run() does N operations and returns the ns that they took; what it prepares is not in them ----

static uint64_t check; // printed

static uint64_t run_getppid(uint64_t n)
{
	pid_t parent = getppid();
	uint64_t wrong = 0, start = now_ns();
	for (uint64_t i = 0; i < n; i++)
		wrong += syscall(SYS_getppid) != parent;
	uint64_t took = now_ns() - start;
	if (wrong)
		fail("%" PRIu64 " of %" PRIu64 " answers are wrong", wrong, n);
	return took;
}

static uint64_t run_clock(uint64_t n)
{
	uint64_t start = now_ns(), last = start, backwards = 0;
	for (uint64_t i = 0; i < n; i++) {
		uint64_t t = now_ns();
		backwards += t < last;
		last = t;
	}
	if (backwards)
		fail("the clock went backwards %" PRIu64 " times", backwards);
	return last - start;
}

static uint64_t run_stat(uint64_t n)
{
	struct stat s;
	uint64_t good = 0, start = now_ns();
	for (uint64_t i = 0; i < n; i++)
		good += !stat("/proc/self/stat", &s) && S_ISREG(s.st_mode);
	uint64_t took = now_ns() - start;
	if (good != n)
		fail("stat: wrong answers");
	return took;
}

static uint64_t run_open(uint64_t n)
{
	int fd = open(FILE_NAME, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	must(fd >= 0, FILE_NAME);
	close(fd);
	uint64_t wrong = 0, start = now_ns();
	for (uint64_t i = 0; i < n; i++) {
		wrong += open(FILE_NAME, O_RDONLY) != fd;
		wrong += close(fd) != 0;
	}
	uint64_t took = now_ns() - start;
	unlink(FILE_NAME);
	if (wrong)
		fail("open or close: wrong answers");
	return took;
}

static volatile uint64_t caught;

static void on_signal(int signal)
{
	(void)signal;
	caught++;
}

static uint64_t run_signal(uint64_t n)
{
	struct sigaction action = {.sa_handler = on_signal};
	sigaction(SIGUSR1, &action, NULL);
	caught = 0;
	pid_t me = getpid();
	uint64_t start = now_ns();
	for (uint64_t i = 0; i < n; i++)
		kill(me, SIGUSR1);
	uint64_t took = now_ns() - start;
	if (caught != n)
		fail("%" PRIu64 " signals sent, %" PRIu64 " caught", n, caught);
	return took;
}

static void reap(pid_t child, int expected)
{
	int status;
	if (waitpid(child, &status, 0) != child || !WIFEXITED(status) || WEXITSTATUS(status) != expected)
		fail("a child ended with status 0x%x", status);
}

// One byte there, one byte back, each time another one.
static uint64_t run_pipe(uint64_t n)
{
	int there[2], back[2];
	must(!pipe(there) && !pipe(back), "pipe");
	pid_t child = fork();
	must(child >= 0, "fork");
	if (!child) {
		unsigned char c;
		close(there[1]);
		while (read(there[0], &c, 1) == 1) {
			c ^= 0x55;
			if (write(back[1], &c, 1) != 1)
				_exit(1);
		}
		_exit(STATUS_OF_CHILD);
	}
	uint64_t wrong = 0, start = now_ns();
	for (uint64_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)i;
		if (write(there[1], &c, 1) != 1 || read(back[0], &c, 1) != 1)
			fail("the pipe ended");
		wrong += c != ((unsigned char)i ^ 0x55);
	}
	uint64_t took = now_ns() - start;
	close(there[1]);
	reap(child, STATUS_OF_CHILD);
	close(there[0]);
	close(back[0]);
	close(back[1]);
	if (wrong)
		fail("%" PRIu64 " bytes are wrong", wrong);
	return took;
}

static uint64_t run_fork(uint64_t n)
{
	uint64_t start = now_ns();
	for (uint64_t i = 0; i < n; i++) {
		pid_t child = fork();
		if (!child)
			_exit(STATUS_OF_CHILD);
		must(child > 0, "fork");
		reap(child, STATUS_OF_CHILD);
	}
	return now_ns() - start;
}

// A function of its own: nothing in its frame changes after vfork.
static __attribute__((noinline)) pid_t spawn(void)
{
	char *const arguments[] = {(char *)self, (char *)"exit", NULL};
	pid_t child = vfork();
	if (!child) {
		execv(self, arguments);
		_exit(1);
	}
	return child;
}

static uint64_t run_exec(uint64_t n)
{
	uint64_t start = now_ns();
	for (uint64_t i = 0; i < n; i++) {
		pid_t child = spawn();
		must(child > 0, "vfork");
		reap(child, STATUS_OF_CHILD);
	}
	return now_ns() - start;
}

static void *thread_body(void *argument)
{
	return (char *)argument + 1;
}

static uint64_t run_thread(uint64_t n)
{
	uint64_t wrong = 0, start = now_ns();
	for (uint64_t i = 0; i < n; i++) {
		pthread_t thread;
		void *result;
		if (pthread_create(&thread, NULL, thread_body, (void *)i) || pthread_join(thread, &result))
			fail("a thread cannot be made or joined");
		wrong += result != (void *)(i + 1);
	}
	uint64_t took = now_ns() - start;
	if (wrong)
		fail("%" PRIu64 " results are wrong", wrong);
	return took;
}

// N pages in mappings of ANON_BYTES: mapping and unmapping are in it, as they are in a program's life. ADVICE as for madvise.
static uint64_t touch_anonymous(uint64_t n, int advice)
{
	uint64_t took = 0;
	for (uint64_t done = 0; done < n;) {
		uint64_t pages = n - done < ANON_BYTES / PAGE ? n - done : ANON_BYTES / PAGE, not_zero = 0, wrong = 0;
		uint64_t start = now_ns();
		char *p = mmap(NULL, ANON_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		must(p != MAP_FAILED, "mmap");
		madvise(p, ANON_BYTES, advice); // a kernel without large pages says EINVAL
		for (uint64_t i = 0; i < pages; i++)
			*(volatile uint64_t *)(p + i * PAGE) = i + 1; // a read first would map the zero page
		took += now_ns() - start;
		for (uint64_t i = 0; i < pages; i++) {
			uint64_t *words = (uint64_t *)(p + i * PAGE);
			wrong += words[0] != i + 1;
			for (uint64_t k = 1; k < PAGE / 8; k += 73)
				not_zero += words[k] != 0;
		}
		start = now_ns();
		munmap(p, ANON_BYTES);
		took += now_ns() - start;
		if (not_zero || wrong)
			fail("%" PRIu64 " words were not zero, %" PRIu64 " pages lost what was written", not_zero,
			     wrong);
		done += pages;
	}
	return took;
}

static uint64_t run_anon(uint64_t n)
{
	return touch_anonymous(n, MADV_HUGEPAGE);
}

static uint64_t run_anon_small(uint64_t n)
{
	return touch_anonymous(n, MADV_NOHUGEPAGE);
}

static uint64_t run_file(uint64_t n)
{
	static bool made;
	static char block[MIB];
	uint64_t took = 0;
	if (!made) {
		int fd = open(FILE_NAME, O_WRONLY | O_CREAT | O_TRUNC, 0600);
		must(fd >= 0, FILE_NAME);
		for (uint64_t i = 0; i < FILE_BYTES / MIB; i++) {
			for (uint64_t page = 0; page < MIB / PAGE; page++)
				*(uint64_t *)(block + page * PAGE) = i * (MIB / PAGE) + page;
			must(write(fd, block, MIB) == (ssize_t)MIB, FILE_NAME);
		}
		close(fd);
		made = true;
	}
	int fd = open(FILE_NAME, O_RDONLY);
	must(fd >= 0, FILE_NAME);
	for (uint64_t done = 0; done < n;) {
		uint64_t pages = n - done < FILE_BYTES / PAGE ? n - done : FILE_BYTES / PAGE, sum = 0, start = now_ns();
		char *p = mmap(NULL, FILE_BYTES, PROT_READ, MAP_SHARED, fd, 0);
		must(p != MAP_FAILED, "mmap");
		for (uint64_t i = 0; i < pages; i++)
			sum += *(volatile uint64_t *)(p + i * PAGE);
		munmap(p, FILE_BYTES);
		took += now_ns() - start;
		if (sum != pages * (pages - 1) / 2)
			fail("the file's contents are wrong");
		done += pages;
	}
	close(fd);
	return took;
}

static uint64_t run_memcpy(uint64_t n)
{
	static char *from, *to;
	if (!from) {
		from = malloc(MIB);
		to = malloc(MIB);
		must(from && to, "malloc");
		for (uint64_t i = 0; i < MIB; i++)
			from[i] = (char)(i * 131 >> 3);
	}
	memset(to, 0, MIB);
	uint64_t start = now_ns();
	for (uint64_t i = 0; i < n; i++) {
		memcpy(to, from, MIB);
		__asm__ volatile("" ::: "memory");
	}
	uint64_t took = now_ns() - start;
	if (memcmp(from, to, MIB))
		fail("the copy differs");
	return took;
}

// One operation: a thousand steps of a generator whose end is known from a first time.
static uint64_t integers(uint64_t x)
{
	for (int i = 0; i < 1000; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		x += x / 641;
	}
	return x;
}

static uint64_t run_integer(uint64_t n)
{
	uint64_t expected = integers(88172645463325252u), wrong = 0, start = now_ns();
	for (uint64_t i = 0; i < n; i++) {
		uint64_t x = 88172645463325252u;
		__asm__ volatile("" : "+r"(x));
		wrong += integers(x) != expected;
	}
	uint64_t took = now_ns() - start;
	check = expected;
	if (wrong)
		fail("%" PRIu64 " results are wrong", wrong);
	return took;
}

// One operation: a thousand dependent multiplications of eight doubles, in four independent chains.
__attribute__((target("avx512f"))) static double vectors(double seed)
{
	__m512d a[4], factor = _mm512_set1_pd(0.999), add = _mm512_set1_pd(0.5);
	for (int k = 0; k < 4; k++)
		a[k] = _mm512_set_pd(seed, seed + 1, seed + 2, seed + 3, seed + 4, seed + 5, seed + 6, seed + k);
	for (int i = 0; i < 250; i++)
		for (int k = 0; k < 4; k++)
			a[k] = _mm512_fmadd_pd(a[k], factor, add);
	return _mm512_reduce_add_pd(a[0]) + _mm512_reduce_add_pd(a[1]) + _mm512_reduce_add_pd(a[2]) +
	       _mm512_reduce_add_pd(a[3]);
}

static uint64_t run_avx512(uint64_t n)
{
	if (!__builtin_cpu_supports("avx512f"))
		exit(STATUS_SKIPPED);
	double expected = vectors(3.0);
	uint64_t wrong = 0, start = now_ns();
	for (uint64_t i = 0; i < n; i++) {
		double seed = 3.0;
		__asm__ volatile("" : "+x"(seed));
		wrong += vectors(seed) != expected;
	}
	uint64_t took = now_ns() - start;
	memcpy(&check, &expected, sizeof check);
	if (wrong)
		fail("%" PRIu64 " results are wrong", wrong);
	return took;
}

static const struct row {
	const char *name;
	uint64_t (*run)(uint64_t n);
	uint64_t least; // operations of a batch
} rows[] = {
	{"getppid", run_getppid, 1000},
	{"clock_gettime", run_clock, 1000},
	{"stat-proc", run_stat, 100},
	{"open-close", run_open, 100},
	{"signal", run_signal, 100},
	{"pipe", run_pipe, 100},
	{"fork", run_fork, 10},
	{"exec", run_exec, 10},
	{"thread", run_thread, 10},
	{"anon", run_anon, ANON_BYTES / PAGE},
	{"anon-4k", run_anon_small, ANON_BYTES / PAGE},
	{"file", run_file, FILE_BYTES / PAGE},
	{"memcpy", run_memcpy, 10},
	{"integer", run_integer, 100},
	{"avx512", run_avx512, 100},
};

#define ROWS (sizeof rows / sizeof rows[0])

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

// As many operations as take MS, found by doubling; the last try serves as warm-up.
static int measure(const struct row *row, uint64_t ms)
{
	double ns[BATCHES];
	uint64_t n = row->least, took, total = n;
	while ((took = row->run(n)) < ms * 1000000 / 2) {
		n *= 2;
		total += n;
	}
	if (took < ms * 1000000)
		n *= 2;
	for (int i = 0; i < BATCHES; i++)
		ns[i] = (double)row->run(n) / (double)n;
	qsort(ns, BATCHES, sizeof ns[0], compare);
	printf("%.2f %.2f %.2f %" PRIu64 " %" PRIx64 " %" PRIu64 "\n", ns[BATCHES / 2], ns[0], ns[BATCHES - 1], n,
	       check, total + BATCHES * n);
	unlink(FILE_NAME);
	return 0;
}

int main(int argc, char **argv)
{
	const char *name = argc > 1 ? argv[1] : "";
	char path[4096];
	ssize_t length;
	if (!strcmp(name, "exit"))
		return STATUS_OF_CHILD;
	if (!strcmp(name, "off")) {
		sync();
		reboot(RB_POWER_OFF);
		return 1;
	}
	if (!strcmp(name, "list")) {
		for (size_t i = 0; i < ROWS; i++)
			puts(rows[i].name);
		return 0;
	}
	length = readlink("/proc/self/exe", path, sizeof path - 1);
	must(length > 0, "/proc/self/exe");
	path[length] = 0;
	self = path;
	for (size_t i = 0; i < ROWS; i++)
		if (!strcmp(name, rows[i].name)) {
			row_name = name;
			return measure(&rows[i], argc > 2 ? strtoul(argv[2], NULL, 10) : 20);
		}
	fprintf(stderr, "usage: micro list | ROW [MS] | off\n");
	return 125;
}
