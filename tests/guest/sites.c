// SPDX-License-Identifier: BSD-2-Clause
/*
 * Code around system calls. LoL replaces syscall and what stands beside it by a jump, where nobody can write to the page: the
 * program must not notice, wherever it jumps to and however its instructions lie.
 */
#include "guest-test.h"

#include <elf.h>
#include <sys/procfs.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/user.h>

static unsigned char *page, *at;

/* Instructions by length; all but the first and the fifth add 1 to edi. */
static const struct {
	const char *bytes;
	int adds;
} by_length[] = {
	{"", 0},
	{"\xf9", 0},                         /* stc */
	{"\xff\xc7", 1},                     /* inc %edi */
	{"\x83\xc7\x01", 1},                 /* add $1, %edi */
	{"\x48\x83\xc7\x01", 1},             /* add $1, %rdi */
	{"\x0f\x1f\x44\x00\x00", 0},         /* nop */
	{"\x81\xc7\x01\x00\x00\x00", 1},     /* add $1, %edi */
	{"\x48\x81\xc7\x01\x00\x00\x00", 1}, /* add $1, %rdi */
};

static void emit(const void *bytes, size_t n)
{
	memcpy(at, bytes, n);
	at += n;
}

static void code_begin(void)
{
	page = map_rw(PAGE);
	at = page + 128;
}

static void code_end(void)
{
	CHECK(mprotect(page, PAGE, PROT_READ | PROT_EXEC) == 0);
}

/* Call code with eax and edi; what is in edi at its end. */
static long call(const unsigned char *code, long eax, long edi)
{
	asm volatile("sub $128, %%rsp\n call *%2\n add $128, %%rsp"
		     : "+a"(eax), "+D"(edi)
		     : "r"(code)
		     : "rcx", "r11", "rdx", "rsi", "memory", "cc");
	return edi;
}

/* One function for each row: the lengths of the instructions behind its system call. */
static const unsigned char rows[][6] = {
	{6},       {7},    {5, 2}, {1, 5},    {1, 6}, {1, 1, 1, 1, 1}, {2, 3},    {2, 6},    {2, 2, 2},
	{2, 1, 3}, {3, 2}, {3, 7}, {3, 1, 4}, {4, 4}, {4, 1},          {1, 3, 3}, {1, 2, 2}, {1, 1, 3},
};

TEST(jumps_behind_a_system_call)
{
	const unsigned char *start[ARRAY_LEN(rows)];

	code_begin();
	for (size_t r = 0; r < ARRAY_LEN(rows); r++) {
		start[r] = at;
		emit("\x0f\x05", 2);
		for (int i = 0; i < 6 && rows[r][i]; i++)
			emit(by_length[rows[r][i]].bytes, rows[r][i]);
		emit("\xff\xc7\xc3", 3); /* inc %edi; ret */
	}
	code_end();
	for (int round = 0; round < 50; round++)
		for (size_t r = 0; r < ARRAY_LEN(rows); r++) {
			int adds = 1;
			const unsigned char *to = start[r] + 2;
			for (int i = 0; i < 6; i++)
				adds += by_length[rows[r][i]].adds;
			CHECK_EQ(call(start[r], SYS_getppid, 100), 100 + adds);
			for (int i = 0; i < 6 && rows[r][i]; i++) {
				CHECK_EQ(call(to, SYS_getppid, 100), 100 + adds);
				to += rows[r][i];
				adds -= by_length[rows[r][i]].adds;
			}
			CHECK_EQ(call(to, SYS_getppid, 100), 101);
		}
}

/* The number's mov before, a jump behind, so that only the mov can move; or what looks like such a mov. */
TEST(jumps_between_number_and_system_call)
{
	static const char tail[] = "\xeb\x00\x89\xc7\xc3"; /* jmp +0; mov %eax, %edi; ret */
	const unsigned char *plain, *other, *store, *two;

	code_begin();
	plain = at;
	emit("\xb8\x6e\x00\x00\x00\x0f\x05", 7); /* mov $SYS_getppid, %eax; syscall */
	emit(tail, 5);
	other = at;
	emit("\x41\xb8\x6e\x00\x00\x00\x0f\x05", 8); /* mov $110, %r8d; syscall */
	emit(tail, 5);
	store = at;
	emit("\xc7\x44\x24\xb8\x6e\x00\x00\x00\x0f\x05", 10); /* movl $110, -72(%rsp); syscall */
	emit(tail, 5);
	two = at;
	emit("\xb8\x6e\x00\x00\x00\x0f\x05", 7);
	emit("\xb8\x27\x00\x00\x00\x0f\x05", 7); /* SYS_getpid */
	emit(tail, 5);
	code_end();
	for (int round = 0; round < 50; round++) {
		CHECK_EQ(call(plain, 0, 0), getppid());
		CHECK_EQ(call(plain + 5, SYS_getpid, 0), getpid());
		CHECK_EQ(call(other, SYS_getpid, 0), getpid());
		CHECK_EQ(call(other + 6, SYS_getpid, 0), getpid());
		CHECK_EQ(call(store, SYS_getpid, 0), getpid());
		CHECK_EQ(call(two, 0, 0), getpid());
		CHECK_EQ(call(two + 5, SYS_getppid, 0), getpid());
		CHECK_EQ(call(two + 7, 0, 0), getpid());
		CHECK_EQ(call(two + 12, SYS_getppid, 0), getppid());
	}
}

/*
 * Instructions before the system call, its own place (0), and behind it; 'r' is ret with a NOP of nine bytes behind it. A jump ends those
 * that have no ret, so that they cannot all move.
 */
static const char around[][8] = {
	{5, 0},         {3, 0, 4},    {3, 0, 'r'},       {0, 'r'},        {2, 5, 0},   {3, 3, 3, 0},
	{4, 4, 0},      {7, 0, 2},    {3, 4, 0, 1},      {2, 0, 2, 'r'},  {1, 0, 4},   {4, 3, 0},
	{2, 3, 0, 'r'}, {3, 0, 2, 3}, {2, 2, 1, 0},      {5, 5, 5, 5, 0}, {6, 0, 1},   {1, 1, 1, 2, 0},
	{5, 0, 'r'},    {7, 7, 0, 7}, {3, 2, 0, 2, 'r'}, {2, 1, 0, 'r'},  {4, 0, 'r'}, {3, 5, 0, 4},
};

TEST(jumps_around_a_system_call)
{
	const unsigned char *start[ARRAY_LEN(around)];
	static const char nop9[] = "\x66\x0f\x1f\x84\x00\x00\x00\x00\x00";

	code_begin();
	for (int i = 0; i < 40; i++) /* something to fall into step in */
		emit("\x48\x83\xc7\x01", 4);
	for (size_t r = 0; r < ARRAY_LEN(around); r++) {
		bool call_done = false, returned = false;
		start[r] = at;
		for (int i = 0; i < 8 && (around[r][i] || !call_done); i++) {
			int n = around[r][i];
			returned = n == 'r';
			if (!n) {
				emit("\x0f\x05", 2);
				call_done = true;
			} else if (returned) {
				emit("\xc3", 1);
				emit(nop9, 9);
			} else {
				emit(by_length[n].bytes, (size_t)n);
			}
		}
		if (!returned)
			emit("\xeb\x02\xff\xc7\xff\xc7\xc3", 7); /* jmp over an inc; inc %edi; ret */
	}
	code_end();
	for (int round = 0; round < 50; round++)
		for (size_t r = 0; r < ARRAY_LEN(around); r++) {
			bool call_done = false;
			int adds = 1, length;
			const unsigned char *to = start[r];
			for (int i = 0; i < 8 && (around[r][i] || !call_done); i++) {
				call_done |= !around[r][i];
				if (around[r][i] == 'r')
					adds--;
				else if (around[r][i])
					adds += by_length[(int)around[r][i]].adds;
			}
			call_done = false;
			for (int i = 0; i < 8 && (around[r][i] || !call_done); i++) {
				CHECK_EQ(call(to, SYS_getppid, 100), 100 + adds);
				if (around[r][i] == 'r')
					break;
				length = around[r][i] ? around[r][i] : 2;
				call_done |= !around[r][i];
				adds -= around[r][i] ? by_length[length].adds : 0;
				to += length;
			}
		}
}

/* A function that begins behind zeros or data, from which no reader of the code can tell where it begins. */
TEST(system_calls_behind_data)
{
	static const char *data[] = {"\x00",     "\x00\x00", "\x41", "\x48\x8b", "\x0f",
				     "\xe8\x01", "\x81\xc7", "\xb8", "\x66\x41", "AAAA\x41"};
	static const uint8_t lengths[] = {1, 2, 1, 2, 1, 2, 2, 1, 2, 5};
	const unsigned char *start[ARRAY_LEN(data)][8];

	code_begin();
	for (size_t i = 0; i < ARRAY_LEN(data); i++)
		for (int zeros = 0; zeros < 8; zeros++) {
			at += 9 + zeros;
			emit(data[i], lengths[i]);
			start[i][zeros] = at;
			emit("\xb8\x27\x00\x00\x00\x0f\x05", 7); /* mov $SYS_getpid, %eax; syscall */
			emit("\xeb\x00\x89\xc7\xc3", 5);         /* jmp +0; mov %eax, %edi; ret */
		}
	code_end();
	for (int round = 0; round < 20; round++)
		for (size_t i = 0; i < ARRAY_LEN(data); i++)
			for (int zeros = 0; zeros < 8; zeros++)
				CHECK_EQ(call(start[i][zeros], SYS_getppid, 0), getpid());
}

static volatile unsigned long fault_ip;

static void on_fault(int sig, siginfo_t *si, void *context)
{
	ucontext_t *uc = context;

	(void)sig;
	(void)si;
	fault_ip = (unsigned long)uc->uc_mcontext.gregs[REG_RIP];
	uc->uc_mcontext.gregs[REG_RIP] += 4;
}

/* An instruction behind the system call faults: at its own place. */
TEST(faults_behind_a_system_call)
{
	code_begin();
	const unsigned char *start = at;
	emit("\x0f\x05", 2);
	emit("\x48\x8b\x46\x08", 4); /* mov 8(%rsi), %rax */
	emit("\xff\xc7\xff\xc7\xc3", 5);
	const unsigned char *second = at;
	emit("\x0f\x05\xff\xc7\x90\x48\x8b\x46\x08\xff\xc7\xc3",
	     12); /* syscall; inc; nop; mov 8(%rsi), %rax; inc; ret */
	code_end();
	on_signal(SIGSEGV, on_fault, 0);
	for (int round = 0; round < 50; round++) {
		long edi = 0, eax = SYS_getppid;
		fault_ip = 0;
		asm volatile("sub $128, %%rsp\n call *%2\n add $128, %%rsp"
			     : "+a"(eax), "+D"(edi)
			     : "r"(start), "S"(0)
			     : "rcx", "r11", "memory");
		CHECK_EQ(fault_ip, (unsigned long)start + 2);
		CHECK_EQ(edi, 2);
		edi = 0, eax = SYS_getppid, fault_ip = 0;
		asm volatile("sub $128, %%rsp\n call *%2\n add $128, %%rsp"
			     : "+a"(eax), "+D"(edi)
			     : "r"(second), "S"(1ul << 60)
			     : "rcx", "r11", "memory");
		CHECK_EQ(fault_ip, (unsigned long)second + 5);
		CHECK_EQ(edi, 2);
	}
}

/* getppid and a number: mov $SYS_getppid, %eax; syscall; add $0x11, %edi; ... mov $NUMBER, %edi; ret */
static size_t numbered(unsigned char *to, uint32_t number)
{
	unsigned char *start = at;

	at = to;
	emit("\xb8\x6e\x00\x00\x00\x0f\x05\x48\x81\xc7\x11\x00\x00\x00", 14);
	emit("\xbf", 1);
	emit(&number, 4);
	emit("\xc3", 1);
	size_t n = (size_t)(at - to);
	at = start;
	return n;
}

/* The kernel writes to a page that is executed and whose system calls have been replaced: by write(2) to the file. */
TEST(code_written_through_its_file)
{
	int fd = memfd_create("code", 0);
	unsigned char bytes[64];

	CHECK(fd >= 0 && ftruncate(fd, 2 * PAGE) == 0);
	size_t n = numbered(bytes, 0);
	CHECK_EQ(pwrite(fd, bytes, n, 0), n);
	unsigned char *code = mmap(NULL, 2 * PAGE, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
	CHECK(code != MAP_FAILED);
	for (uint32_t round = 0; round < 300; round++) {
		for (int i = 0; i < 3; i++)
			CHECK_EQ(call(code, 0, 5), round);
		numbered(bytes, round + 1);
		CHECK_EQ(pwrite(fd, bytes, n, 0), n);
	}
}

/* By /proc/self/mem, and the same word again and again: the page is the process's own after the first time. */
TEST(code_written_through_proc)
{
	int fd = open("/proc/self/mem", O_RDWR);
	if (fd < 0)
		SKIP("no /proc");
	code_begin();
	size_t n = numbered(page, 0);
	code_end();
	for (uint32_t round = 0; round < 300; round++) {
		unsigned char bytes[64];
		for (int i = 0; i < 3; i++)
			CHECK_EQ(call(page, 0, 5), round);
		numbered(bytes, round + 1);
		CHECK_EQ(pwrite(fd, bytes, n, (off_t)(uintptr_t)page), n);
	}
}

/* A debugger's breakpoint in such a page is hit, and gone when it is taken away; no step is taken meanwhile. */
TEST(breakpoints_beside_system_calls)
{
	volatile uint32_t *turns = map_shared(PAGE);
	int st;

	code_begin();
	numbered(page, 7);
	code_end();
	pid_t pid = fork_ok();
	if (!pid)
		for (;;) {
			CHECK_EQ(call(page, 0, 5), 7);
			++*turns;
		}
	CHECK(ptrace(PTRACE_SEIZE, pid, 0, 0) == 0);
	for (int round = 0; round < 60; round++) {
		uint32_t before = *turns;
		while (*turns < before + 5)
			sched_yield();
		CHECK(ptrace(PTRACE_INTERRUPT, pid, 0, 0) == 0);
		CHECK_EQ(waitpid(pid, &st, 0), pid);
		CHECK(WIFSTOPPED(st));
		unsigned char *where = page + 14;
		long word = ptrace(PTRACE_PEEKTEXT, pid, where, 0);
		CHECK_EQ(word & 0xff, 0xbf);
		CHECK(ptrace(PTRACE_POKETEXT, pid, where, (word & ~0xffl) | 0xcc) == 0);
		CHECK(ptrace(PTRACE_CONT, pid, 0, 0) == 0);
		CHECK_EQ(waitpid(pid, &st, 0), pid);
		CHECK(WIFSTOPPED(st) && WSTOPSIG(st) == SIGTRAP);
		struct user_regs_struct r;
		CHECK(ptrace(PTRACE_GETREGS, pid, 0, &r) == 0);
		CHECK_EQ(r.rip, (unsigned long)where + 1);
		r.rip--;
		CHECK(ptrace(PTRACE_POKETEXT, pid, where, word) == 0);
		CHECK(ptrace(PTRACE_SETREGS, pid, 0, &r) == 0);
		CHECK(ptrace(PTRACE_CONT, pid, 0, 0) == 0);
	}
	kill(pid, SIGKILL);
	CHECK_EQ(waitpid(pid, &st, 0), pid);
}

extern char __executable_start[], etext[];

#define CORE "/tmp/sites.core"

/* The core dump of a program that was killed in code: its rip is its own, and its code is as it was written. */
static void check_core(const unsigned char *code, const unsigned char *bytes, size_t n)
{
	int fd = open(CORE, O_RDONLY), notes = 0, loads = 0;
	struct stat st;

	CHECK(fd >= 0 && fstat(fd, &st) == 0);
	const char *core = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	CHECK(core != MAP_FAILED);
	const Elf64_Ehdr *e = (const void *)core;
	const Elf64_Phdr *p = (const void *)(core + e->e_phoff);
	for (unsigned i = 0; i < e->e_phnum; i++) {
		if (p[i].p_type == PT_LOAD && p[i].p_vaddr == (uintptr_t)code && p[i].p_filesz >= n) {
			CHECK(memcmp(core + p[i].p_offset, bytes, n) == 0);
			loads++;
		}
		const char *at_note = core + p[i].p_offset, *end = at_note + p[i].p_filesz;
		while (p[i].p_type == PT_NOTE && at_note < end) {
			const Elf64_Nhdr *note = (const void *)at_note;
			const char *desc = at_note + sizeof(*note) + (note->n_namesz + 3u) / 4 * 4;
			if (note->n_type == NT_PRSTATUS) {
				const struct elf_prstatus *status = (const void *)desc;
				const struct user_regs_struct *r = (const void *)&status->pr_reg;
				CHECK((r->rip >= (uintptr_t)code && r->rip < (uintptr_t)code + n) ||
				      (r->rip >= (uintptr_t)__executable_start && r->rip < (uintptr_t)etext));
				notes++;
			}
			at_note = desc + (note->n_descsz + 3u) / 4 * 4;
		}
	}
	CHECK_EQ(notes, 1);
	CHECK_EQ(loads, 1);
	munmap((void *)core, (size_t)st.st_size);
	close(fd);
}

TEST(core_dumps)
{
	volatile uint32_t *turns = map_shared(PAGE);
	struct rlimit unlimited = {RLIM_INFINITY, RLIM_INFINITY};
	int st, pattern = open("/proc/sys/kernel/core_pattern", O_WRONLY);

	if (pattern < 0 || write(pattern, CORE, sizeof(CORE) - 1) < 0)
		SKIP("core_pattern cannot be set");
	close(pattern);
	CHECK(setrlimit(RLIMIT_CORE, &unlimited) == 0);
	code_begin();
	unsigned char bytes[64];
	size_t n = numbered(page, 7);
	numbered(bytes, 7);
	code_end();
	for (unsigned round = 0; round < 40; round++) {
		*turns = 0;
		unlink(CORE);
		pid_t pid = fork_ok();
		if (!pid)
			for (;;) {
				CHECK_EQ(call(page, 39, 5), 7);
				++*turns;
			}
		while (*turns < 50 + round * 7)
			sched_yield();
		for (volatile unsigned i = 0; i < round * 101; i++)
			;
		CHECK(kill(pid, SIGQUIT) == 0);
		CHECK_EQ(waitpid(pid, &st, 0), pid);
		CHECK(WIFSIGNALED(st) && WTERMSIG(st) == SIGQUIT && WCOREDUMP(st));
		check_core(page, bytes, n);
	}
	unlink(CORE);
}

int main(int argc, char **argv)
{
	return run_tests(argc, argv);
}
