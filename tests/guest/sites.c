// SPDX-License-Identifier: BSD-2-Clause
/*
 * Code around system calls. LoL replaces syscall and what stands beside it by a jump, where nobody can write to the page: the
 * program must not notice, wherever it jumps to and however its instructions lie.
 */
#include "guest-test.h"

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

int main(int argc, char **argv)
{
	return run_tests(argc, argv);
}
