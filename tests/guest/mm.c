// SPDX-License-Identifier: BSD-2-Clause
/* Memory: mappings made, moved, protected, shared, copied on write, taken away, executed; with their contents checked. */
#include "guest-test.h"

#include <setjmp.h>
#include <sys/ipc.h>
#include <sys/shm.h>
#include <sys/uio.h>

static sigjmp_buf back;

static void jump_back(int sig)
{
	siglongjmp(back, sig);
}

/* Does a read of this byte raise a signal? */
static bool faults(const volatile char *p)
{
	signal(SIGSEGV, jump_back);
	signal(SIGBUS, jump_back);
	if (sigsetjmp(back, 1))
		return true;
	(void)*p;
	return false;
}

static bool write_faults(volatile char *p)
{
	signal(SIGSEGV, jump_back);
	signal(SIGBUS, jump_back);
	if (sigsetjmp(back, 1))
		return true;
	*p = *p;
	return false;
}

/* Every page holds its own number, in the first and the last word, mixed with a seed. */
static void stamp(char *p, size_t pages, uint64_t seed)
{
	for (size_t i = 0; i < pages; i++) {
		*(uint64_t *)(p + i * PAGE) = i ^ seed;
		*(uint64_t *)(p + (i + 1) * PAGE - 8) = ~(i ^ seed);
	}
}

static bool stamped(const char *p, size_t pages, uint64_t seed)
{
	for (size_t i = 0; i < pages; i++)
		if (*(const uint64_t *)(p + i * PAGE) != (i ^ seed) ||
		    *(const uint64_t *)(p + (i + 1) * PAGE - 8) != ~(i ^ seed))
			return false;
	return true;
}

static bool all_zero(const char *p, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (p[i])
			return false;
	return true;
}

TEST(fresh_memory_is_zero)
{
	for (int i = 0; i < 20; i++) {
		char *p = map_rw(64 * PAGE);
		CHECK(all_zero(p, 64 * PAGE));
		memset(p, 0xff, 64 * PAGE);
		munmap(p, 64 * PAGE);
	}
}

TEST(protect_and_verify)
{
	enum { PAGES = 512 };
	char *p = map_rw(PAGES * PAGE);
	uint64_t r = 1;

	stamp(p, PAGES, 7);
	for (int round = 0; round < 300; round++) {
		size_t from = rnd(&r) % PAGES, n = 1 + rnd(&r) % 32;
		static const int prots[] = {PROT_NONE, PROT_READ, PROT_READ | PROT_WRITE};
		int prot = prots[rnd(&r) % 3];
		if (from + n > PAGES)
			n = PAGES - from;
		CHECK(mprotect(p + from * PAGE, n * PAGE, prot) == 0);
		size_t at = from + rnd(&r) % n;
		CHECK_EQ(faults(p + at * PAGE), prot == PROT_NONE);
		CHECK_EQ(write_faults(p + at * PAGE), !(prot & PROT_WRITE));
	}
	CHECK(mprotect(p, PAGES * PAGE, PROT_READ) == 0);
	CHECK(stamped(p, PAGES, 7));
}

TEST_LIMIT(random_maps_against_a_model, 180)
{
	/* mmap, munmap, mremap, mprotect, madvise at random places; a model knows what each page must hold. */
	enum { PAGES = 256 };
	static struct {
		bool mapped, readable, writable;
		uint64_t value;
	} model[PAGES];
	char *base = map(PAGES * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE);
	uint64_t r = 99, stamp_value = 1;

	munmap(base, PAGES * PAGE);
	for (int round = 0; round < 4000; round++) {
		size_t from = rnd(&r) % PAGES, n = 1 + rnd(&r) % 16;
		if (from + n > PAGES)
			n = PAGES - from;
		char *p = base + from * PAGE;
		switch (rnd(&r) % 6) {
		case 0:
			CHECK(mmap(p, n * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
				   0) == p);
			for (size_t i = from; i < from + n; i++) {
				model[i].mapped = model[i].readable = model[i].writable = true;
				model[i].value = 0;
			}
			break;
		case 1:
			CHECK(munmap(p, n * PAGE) == 0);
			for (size_t i = from; i < from + n; i++)
				model[i].mapped = false;
			break;
		case 2:
			if (mprotect(p, n * PAGE, PROT_READ) == 0)
				for (size_t i = from; i < from + n; i++)
					model[i].writable = false;
			else /* stops at the first hole */
				for (size_t i = from; i < from + n && model[i].mapped; i++)
					model[i].writable = false;
			break;
		case 3:
			for (size_t i = from; i < from + n; i++) {
				if (!model[i].mapped)
					continue;
				CHECK(mprotect(base + i * PAGE, PAGE, PROT_READ | PROT_WRITE) == 0);
				model[i].writable = true;
				model[i].value = *(uint64_t *)(base + i * PAGE + 128) = stamp_value++;
			}
			break;
		case 4:
			if (model[from].mapped && madvise(p, PAGE, MADV_DONTNEED) == 0)
				model[from].value = 0;
			break;
		case 5:
			break;
		}
		size_t probe = rnd(&r) % PAGES;
		CHECK_EQ(faults(base + probe * PAGE), !model[probe].mapped);
		if (model[probe].mapped) {
			CHECK_EQ(*(uint64_t *)(base + probe * PAGE + 128), model[probe].value);
			CHECK_EQ(write_faults(base + probe * PAGE), !model[probe].writable);
		}
	}
	for (size_t i = 0; i < PAGES; i++) {
		CHECK_EQ(faults(base + i * PAGE), !model[i].mapped);
		if (model[i].mapped)
			CHECK_EQ(*(uint64_t *)(base + i * PAGE + 128), model[i].value);
	}
}

TEST(mremap_moves_contents)
{
	enum { PAGES = 300 };
	char *p = map_rw(PAGES * PAGE), *q;

	stamp(p, PAGES, 3);
	q = mremap(p, PAGES * PAGE, 4 * PAGES * PAGE, MREMAP_MAYMOVE);
	CHECK(q != MAP_FAILED);
	CHECK(stamped(q, PAGES, 3));
	CHECK(all_zero(q + PAGES * PAGE, 8 * PAGE));
	char *target = map_rw(4 * PAGES * PAGE);
	memset(target, 1, 10 * PAGE);
	CHECK(mremap(q, PAGES * PAGE, PAGES * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, target) == target);
	CHECK(faults(q));
	CHECK(stamped(target, PAGES, 3));
	CHECK(mremap(target, PAGES * PAGE, 10 * PAGE, 0) == target);
	CHECK(stamped(target, 10, 3));
	/* back and forth: stale translations would show old contents */
	char *a = map_rw(2 * PAGE), *b = a + PAGE;
	munmap(b, PAGE);
	for (int i = 0; i < 200; i++) {
		*(int *)a = i;
		CHECK(mremap(a, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, b) == b);
		CHECK_EQ(*(int *)b, i);
		CHECK(faults(a));
		CHECK(mremap(b, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, a) == a);
		CHECK_EQ(*(int *)a, i);
	}
}

TEST(same_address_new_contents)
{
	int fd[4];
	char *p = map_rw(PAGE);

	for (int i = 0; i < 4; i++) {
		fd[i] = memfd_create("m", 0);
		CHECK(fd[i] >= 0 && ftruncate(fd[i], PAGE) == 0);
		CHECK(pwrite(fd[i], &i, sizeof(i), 100) == sizeof(i));
	}
	for (int i = 0; i < 400; i++) {
		CHECK(mmap(p, PAGE, PROT_READ, (i & 4 ? MAP_SHARED : MAP_PRIVATE) | MAP_FIXED, fd[i % 4], 0) == p);
		CHECK_EQ(*(volatile int *)(p + 100), i % 4);
	}
}

TEST_LIMIT(copy_on_write_after_fork, 120)
{
	enum { PAGES = 1024 };
	char *p = map_rw(PAGES * PAGE);

	stamp(p, PAGES, 1);
	for (int round = 0; round < 5; round++) {
		int go[2], done[2];
		char c;
		CHECK(pipe(go) == 0 && pipe(done) == 0);
		pid_t pid = fork_ok();
		if (pid == 0) {
			CHECK(stamped(p, PAGES, 1));
			for (size_t i = 0; i < PAGES; i += 2)
				*(uint64_t *)(p + i * PAGE + 512) = 0xc0ffee + i;
			CHECK(write(done[1], "d", 1) == 1);
			CHECK(read(go[0], &c, 1) == 1);
			for (size_t i = 0; i < PAGES; i++)
				CHECK_EQ(*(uint64_t *)(p + i * PAGE + 512), i % 2 ? (uint64_t)round : 0xc0ffee + i);
			_exit(0);
		}
		CHECK(read(done[0], &c, 1) == 1);
		for (size_t i = 0; i < PAGES; i++) {
			CHECK_EQ(*(uint64_t *)(p + i * PAGE + 512), round);
			*(uint64_t *)(p + i * PAGE + 512) = (uint64_t)round + 1;
		}
		CHECK(write(go[1], "g", 1) == 1);
		wait_ok(pid);
	}
	CHECK(stamped(p, PAGES, 1));
}

TEST(copy_on_write_by_the_kernel)
{
	/* read() into a page that is shared after fork: the kernel has to break the sharing. */
	int fd = open("/dev/zero", O_RDONLY), go[2];
	char *p = map_rw(16 * PAGE), c;

	CHECK(fd >= 0 && pipe(go) == 0);
	memset(p, 0x55, 16 * PAGE);
	pid_t pid = fork_ok();
	if (pid == 0) {
		CHECK(read(go[0], &c, 1) == 1);
		for (size_t i = 0; i < 16 * PAGE; i++)
			CHECK_EQ(p[i], 0x55);
		_exit(0);
	}
	CHECK_EQ(read(fd, p + 100, 15 * PAGE), 15 * PAGE);
	CHECK(all_zero(p + 100, 15 * PAGE));
	CHECK_EQ(p[99], 0x55);
	CHECK(write(go[1], "g", 1) == 1);
	wait_ok(pid);
}

TEST(shared_between_processes)
{
	enum { PROCS = 4, ROUNDS = 3000 };
	volatile long *shared = map_shared(PROCS * PAGE);

	for (int i = 0; i < PROCS; i++) {
		if (fork_ok() == 0) {
			for (int r = 0; r < ROUNDS; r++) {
				__atomic_add_fetch(&shared[0], 1, __ATOMIC_SEQ_CST);
				shared[512 * i + 8] = r;
			}
			_exit(0);
		}
	}
	for (int i = 0; i < PROCS; i++) {
		int st;
		CHECK(wait(&st) > 0 && st == 0);
	}
	CHECK_EQ(shared[0], PROCS * ROUNDS);
	for (int i = 0; i < PROCS; i++)
		CHECK_EQ(shared[512 * i + 8], ROUNDS - 1);
}

TEST(shared_memory_segment)
{
	int id = shmget(IPC_PRIVATE, 8 * PAGE, IPC_CREAT | 0600);

	if (id < 0 && errno == ENOSYS)
		SKIP("no System V shared memory in this kernel");
	CHECK(id >= 0);
	char *a = shmat(id, NULL, 0), *b = shmat(id, NULL, SHM_RDONLY);
	CHECK(a != (void *)-1 && b != (void *)-1 && a != b);
	strcpy(a + 5 * PAGE, "here");
	CHECK(strcmp(b + 5 * PAGE, "here") == 0);
	CHECK(write_faults(b));
	CHECK(shmctl(id, IPC_RMID, NULL) == 0);
	shmdt(a);
	CHECK(faults(a));
	CHECK(strcmp(b + 5 * PAGE, "here") == 0);
}

TEST(two_views_of_one_file)
{
	int fd = memfd_create("two", 0);
	CHECK(fd >= 0 && ftruncate(fd, 64 * PAGE) == 0);
	char *a = mmap(NULL, 64 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	char *b = mmap(NULL, 64 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	char *priv = mmap(NULL, 64 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0), buf[16];

	CHECK(a != MAP_FAILED && b != MAP_FAILED && priv != MAP_FAILED);
	for (size_t i = 0; i < 64; i++) {
		snprintf(a + i * PAGE, 16, "page %zu", i);
		CHECK(strcmp(b + i * PAGE, a + i * PAGE) == 0);
		CHECK(strcmp(priv + i * PAGE, a + i * PAGE) == 0);
		CHECK_EQ(pread(fd, buf, 16, (off_t)(i * PAGE)), 16);
		CHECK(strcmp(buf, b + i * PAGE) == 0);
	}
	strcpy(priv, "mine");
	CHECK(strcmp(a, "page 0") == 0);
	strcpy(b, "other");
	CHECK(strcmp(priv, "mine") == 0 && strcmp(a, "other") == 0);
	CHECK(madvise(priv, PAGE, MADV_DONTNEED) == 0);
	CHECK(strcmp(priv, "other") == 0);
	CHECK(ftruncate(fd, 0) == 0);
	CHECK(faults(a) && faults(b + 63 * PAGE));
}

TEST(file_mapping_survives)
{
	char path[] = "/tmp/mm-file-XXXXXX", buf[PAGE];
	int fd = mkstemp(path);

	CHECK(fd >= 0 && ftruncate(fd, 100 * PAGE + 123) == 0);
	char *p = mmap(NULL, 101 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CHECK(p != MAP_FAILED);
	stamp(p, 100, 5);
	strcpy(p + 100 * PAGE, "tail");
	CHECK(msync(p, 101 * PAGE, MS_SYNC) == 0);
	munmap(p, 101 * PAGE);
	for (size_t i = 0; i < 100; i++) {
		CHECK_EQ(pread(fd, buf, PAGE, (off_t)(i * PAGE)), PAGE);
		CHECK_EQ(*(uint64_t *)buf, i ^ 5);
	}
	CHECK_EQ(pread(fd, buf, PAGE, 100 * PAGE), 123);
	CHECK(strcmp(buf, "tail") == 0);
	unlink(path);
}

TEST_LIMIT(sparse_giant_mapping, 120)
{
	/* 64 GiB of address space, a page touched here and there. */
	size_t size = 64ul << 30;
	char *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	uint64_t r = 5, check;

	CHECK(p != MAP_FAILED);
	madvise(p, size, MADV_NOHUGEPAGE); /* 1500 huge pages would be 3 GB */
	for (int i = 0; i < 1500; i++)
		*(uint64_t *)(p + rnd(&r) % size / PAGE * PAGE + 16) = (uint64_t)i + 1;
	r = 5;
	for (uint64_t i = 0; i < 1500; i++) {
		check = *(uint64_t *)(p + rnd(&r) % size / PAGE * PAGE + 16);
		CHECK(check >= i + 1 && check <= 1500); /* a later one may have hit the same page */
	}
	for (int i = 0; i < 50; i++)
		CHECK_EQ(*(uint64_t *)(p + rnd(&r) % size / PAGE * PAGE), 0);
	CHECK(munmap(p, size) == 0);
	CHECK(faults(p) && faults(p + size - 1));
}

TEST_LIMIT(many_small_mappings, 120)
{
	/* 8000 areas of alternating protection, more than one table of anything. */
	enum { PAGES = 8000 };
	char *p = map_rw(PAGES * PAGE);

	stamp(p, PAGES, 11);
	for (size_t i = 0; i < PAGES; i += 2)
		CHECK(mprotect(p + i * PAGE, PAGE, PROT_READ) == 0);
	CHECK(stamped(p, PAGES, 11));
	for (size_t i = 0; i < PAGES; i += 97)
		CHECK_EQ(write_faults(p + i * PAGE), i % 2 == 0);
	CHECK(mprotect(p, PAGES * PAGE, PROT_READ | PROT_WRITE) == 0);
	stamp(p, PAGES, 12);
	CHECK(stamped(p, PAGES, 12));
}

TEST_LIMIT(million_scattered_pages, 240)
{
	/* Every second page of 1 GiB: no two neighbours, as many pages as memory allows (a quarter of it). */
	long have = sysconf(_SC_PHYS_PAGES) / 4;
	size_t pages = have > 131072 ? 131072 : (size_t)have;
	char *p = mmap(NULL, pages * 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
		       0);

	CHECK(p != MAP_FAILED);
	madvise(p, pages * 2 * PAGE, MADV_NOHUGEPAGE);
	for (size_t i = 0; i < pages; i++)
		*(size_t *)(p + 2 * i * PAGE) = i;
	for (size_t i = 0; i < pages; i++)
		CHECK_EQ(*(size_t *)(p + 2 * i * PAGE), i);
	for (size_t i = pages; i-- > 0;)
		CHECK_EQ(*(size_t *)(p + 2 * i * PAGE), i);
}

TEST(huge_pages)
{
	size_t size = 16 << 20;
	char *p = map_rw(size + (2 << 20));
	char *q = (char *)(((uintptr_t)p + (2 << 20) - 1) & ~((2ul << 20) - 1));

	madvise(q, size, MADV_HUGEPAGE);
	stamp(q, size / PAGE, 21);
	CHECK(stamped(q, size / PAGE, 21));
	/* break them: a page out of the middle, another protection, a copy on write */
	CHECK(munmap(q + (3 << 20), PAGE) == 0);
	CHECK(faults(q + (3 << 20)) && !faults(q + (3 << 20) - 1) && !faults(q + (3 << 20) + PAGE));
	CHECK(mprotect(q + (5 << 20), PAGE, PROT_READ) == 0);
	CHECK(write_faults(q + (5 << 20)) && !write_faults(q + (5 << 20) + PAGE));
	pid_t pid = fork_ok();
	if (pid == 0) {
		memset(q + (8 << 20), 1, 4 << 20);
		_exit(0);
	}
	wait_ok(pid);
	CHECK(stamped(q, 700, 21));
	CHECK_EQ(*(uint64_t *)(q + (8 << 20)), (uint64_t)((8 << 20) / PAGE) ^ 21);
	CHECK(madvise(q, 2 << 20, MADV_DONTNEED) == 0);
	CHECK(all_zero(q, 2 << 20));
}

/* ---- code ---- */

static const unsigned char code_return[] = {0xb8, 0, 0, 0, 0, 0xc3}; /* mov $imm, %eax; ret */

static void emit(unsigned char *p, int value)
{
	memcpy(p, code_return, sizeof(code_return));
	memcpy(p + 1, &value, sizeof(value));
}

TEST(self_modifying_code)
{
	unsigned char *p = map(PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS);

	for (int i = 0; i < 5000; i++) {
		emit(p + i % 64 * 16, i);
		CHECK_EQ(((int (*)(void))(uintptr_t)(p + i % 64 * 16))(), i);
	}
}

TEST(jit_with_protection_changes)
{
	unsigned char *p = map_rw(4 * PAGE);

	for (int i = 0; i < 500; i++) {
		CHECK(mprotect(p, 4 * PAGE, PROT_READ | PROT_WRITE) == 0);
		for (int j = 0; j < 4; j++)
			emit(p + (size_t)j * PAGE + 100, i * 4 + j);
		CHECK(mprotect(p, 4 * PAGE, PROT_READ | PROT_EXEC) == 0);
		for (int j = 0; j < 4; j++)
			CHECK_EQ(((int (*)(void))(uintptr_t)(p + (size_t)j * PAGE + 100))(), i * 4 + j);
	}
}

TEST(jit_through_two_views)
{
	int fd = memfd_create("jit", 0);
	CHECK(fd >= 0 && ftruncate(fd, PAGE) == 0);
	unsigned char *w = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	unsigned char *x = mmap(NULL, PAGE, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);

	CHECK(w != MAP_FAILED && x != MAP_FAILED);
	for (int i = 0; i < 1000; i++) {
		emit(w + 64, i);
		CHECK_EQ(((int (*)(void))(uintptr_t)(x + 64))(), i);
	}
}

TEST(jit_with_system_calls)
{
	/* Code that makes system calls, changed after it has run: mov $nr, %eax; syscall; ret */
	static const unsigned char code[] = {0xb8, 0, 0, 0, 0, 0x0f, 0x05, 0xc3};
	unsigned char *p = map(PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS);
	long expect[] = {getpid(), getppid(), getuid()};
	int nr[] = {SYS_getpid, SYS_getppid, SYS_getuid};

	for (int i = 0; i < 300; i++) {
		int which = i % 3;
		size_t at = (size_t)(i * 37 % 3000);
		memcpy(p + at, code, sizeof(code));
		memcpy(p + at + 1, &nr[which], 4);
		CHECK_EQ(((long (*)(void))(uintptr_t)(p + at))(), expect[which]);
		CHECK(memcmp(p + at + 5, code + 5, 3) == 0); /* what was written is what is read */
		memset(p + at, 0xcc, sizeof(code));
	}
	/* The same place, over and over, with different code around the syscall instruction. */
	for (int i = 0; i < 100; i++) {
		memcpy(p, code, sizeof(code));
		memcpy(p + 1, &nr[i % 3], 4);
		for (int j = 0; j < 50; j++)
			CHECK_EQ(((long (*)(void))(uintptr_t)p)(), expect[i % 3]);
		/* mov $7, %eax; jmp over where the syscall was; ret */
		static const unsigned char other[] = {0xb8, 7, 0, 0, 0, 0xeb, 0, 0xc3};
		memcpy(p, other, sizeof(other));
		CHECK_EQ(((long (*)(void))(uintptr_t)p)(), 7);
	}
}

TEST(jit_with_system_calls_through_two_views)
{
	/* The writer's view is another mapping, and writes go on while the code's page is in use. */
	static const unsigned char code[] = {0xb8, 0, 0, 0, 0, 0x0f, 0x05, 0xc3};
	static const unsigned char other[] = {0xb8, 7, 0, 0, 0, 0xeb, 0, 0xc3};
	int fd = memfd_create("jit", 0), nr[] = {SYS_getpid, SYS_getppid};
	long expect[] = {getpid(), getppid()};

	CHECK(fd >= 0 && ftruncate(fd, PAGE) == 0);
	unsigned char *w = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	unsigned char *x = mmap(NULL, PAGE, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
	CHECK(w != MAP_FAILED && x != MAP_FAILED);
	for (int i = 0; i < 100; i++) {
		memcpy(w, code, sizeof(code));
		memcpy(w + 1, &nr[i % 2], 4);
		for (int j = 0; j < 50; j++)
			CHECK_EQ(((long (*)(void))(uintptr_t)x)(), expect[i % 2]);
		memcpy(w, other, sizeof(other));
		CHECK_EQ(((long (*)(void))(uintptr_t)x)(), 7);
	}
	/* and through the file */
	for (int i = 0; i < 50; i++) {
		CHECK_EQ(pwrite(fd, code, sizeof(code), 0), sizeof(code));
		CHECK_EQ(pwrite(fd, &nr[i % 2], 4, 1), 4);
		for (int j = 0; j < 50; j++)
			CHECK_EQ(((long (*)(void))(uintptr_t)x)(), expect[i % 2]);
		CHECK_EQ(pwrite(fd, other, sizeof(other), 0), sizeof(other));
		CHECK_EQ(((long (*)(void))(uintptr_t)x)(), 7);
	}
}

TEST(code_checks_itself)
{
	/* A checksum over libc's and our own text does not change by running it. */
	extern const unsigned char __executable_start[], etext[];
	uint64_t sum[2] = {0, 0};

	for (int round = 0; round < 2; round++) {
		for (const unsigned char *p = __executable_start; p < etext; p++)
			sum[round] = sum[round] * 31 + *p;
		for (int i = 0; i < 3000; i++) {
			getppid();
			syscall(SYS_getuid);
			(void)!write(-1, "", 0);
		}
	}
	CHECK_EQ(sum[0], sum[1]);
}

/* ---- odds and ends ---- */

/*
 * Pages that were page tables of processes that have ended hold what is written there, whatever a hypervisor still looks for in
 * them. They are filled with a word that looks like an entry that has not been used; a system call in a page that
 * one of the dead could write to makes LoL look at what they have mapped.
 */
TEST_LIMIT(page_tables_of_the_dead, 120)
{
	enum { DEAD = 12, BYTES = 16 << 20 };
	static const unsigned char code[] = {0xb8, 39, 0, 0, 0, 0x0f, 0x05,
					     0x3d, 1,  2, 3, 4, 0xc3}; /* getpid, cmp, ret */

	for (int round = 0; round < 20; round++) {
		int fd = memfd_create("code", 0), st;
		CHECK(fd >= 0 && ftruncate(fd, PAGE) == 0);
		pid_t pid[DEAD];
		for (int i = 0; i < DEAD; i++) {
			pid[i] = fork_ok();
			if (pid[i])
				continue;
			unsigned char *p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
			CHECK(p != MAP_FAILED);
			memcpy(p, code, sizeof(code));
			for (uintptr_t j = 1; j < 40; j++) { /* tables of every level */
				char *q = mmap((void *)(j << 39 | j << 30 | j << 21), PAGE, PROT_READ | PROT_WRITE,
					       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
				if (q != MAP_FAILED)
					*q = 1;
			}
			_exit(0);
		}
		for (int i = 0; i < DEAD; i++) {
			CHECK_EQ(waitpid(pid[i], &st, 0), pid[i]);
			CHECK_EQ(st, 0);
		}
		uint64_t *words = (uint64_t *)map_rw(BYTES);
		madvise(words, BYTES, MADV_NOHUGEPAGE);
		for (size_t i = 0; i < BYTES / 8; i++)
			words[i] = 1;
		unsigned char *p = mmap(NULL, PAGE, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
		CHECK(p != MAP_FAILED);
		usleep(25000);
		for (int i = 0; i < 5; i++)
			CHECK_EQ(((int (*)(void))p)(), getpid());
		for (size_t i = 0; i < BYTES / 8; i++)
			CHECK_EQ(words[i], 1);
		munmap(words, BYTES);
		munmap(p, PAGE);
		close(fd);
	}
}

TEST(brk)
{
	char *start = sbrk(0);

	for (int i = 0; i < 20; i++) {
		char *p = sbrk(1 << 20);
		CHECK(p != (void *)-1);
		CHECK(all_zero(p + PAGE, 16));
		memset(p, i, 1 << 20);
	}
	CHECK(sbrk(-(20 << 20)) != (void *)-1);
	CHECK(sbrk(0) == start);
	CHECK(faults(start + (10 << 20)));
	char *p = sbrk(1 << 20);
	CHECK(all_zero(p + PAGE, (1 << 20) - PAGE));
}

TEST(process_vm_access)
{
	char *p = map_rw(8 * PAGE), *got = malloc(8 * PAGE);
	int go[2];
	char c;

	CHECK(pipe(go) == 0);
	stamp(p, 8, 77);
	pid_t pid = fork_ok();
	if (pid == 0) {
		CHECK(read(go[0], &c, 1) == 1);
		CHECK(strcmp(p + 100, "from outside") == 0);
		_exit(0);
	}
	struct iovec l = {got, 8 * PAGE}, r = {p, 8 * PAGE};
	ssize_t n = process_vm_readv(pid, &l, 1, &r, 1, 0);
	if (n < 0 && errno == ENOSYS) {
		kill(pid, SIGKILL);
		SKIP("no process_vm_readv in this kernel");
	}
	CHECK_EQ(n, 8 * PAGE);
	CHECK(stamped(got, 8, 77));
	l = (struct iovec){"from outside", 13};
	r = (struct iovec){p + 100, 13};
	CHECK_EQ(process_vm_writev(pid, &l, 1, &r, 1, 0), 13);
	CHECK(write(go[1], "g", 1) == 1);
	wait_ok(pid);
	CHECK_EQ(p[100], 0);
}

TEST(locked_and_counted)
{
	unsigned char vec[16];
	char *p = map_rw(16 * PAGE);

	p[3 * PAGE] = 1;
	CHECK(mincore(p, 16 * PAGE, vec) == 0);
	CHECK(vec[3] & 1);
	CHECK(mlock(p, 4 * PAGE) == 0 || errno == ENOMEM || errno == EPERM);
	CHECK(msync(p, 16 * PAGE, MS_ASYNC) == 0);
	CHECK(mmap((void *)0xffff800000000000, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) ==
	      MAP_FAILED);
	CHECK(mmap((void *)0x0000800000000000, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) ==
	      MAP_FAILED);
}

TEST(soft_dirty_and_accessed)
{
	/* Writing after the kernel has write-protected for dirty tracking: the page must still take the write. */
	int fd = open("/proc/self/clear_refs", O_WRONLY);
	char *p = map_rw(64 * PAGE);

	if (fd < 0)
		SKIP("no clear_refs in this kernel");
	for (int i = 0; i < 10; i++) {
		stamp(p, 64, (uint64_t)i);
		CHECK(write(fd, i % 2 ? "1" : "4", 1) == 1 || errno == EINVAL);
		CHECK(stamped(p, 64, (uint64_t)i));
	}
}

int main(int argc, char **argv)
{
	return run_tests(argc, argv);
}
