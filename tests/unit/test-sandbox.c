/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The two sandboxes: every system call number that is not on a list is refused, and those on the lists with other
 * arguments than LoL's own. K's filter is loaded and tried, a process for each call; U's is interpreted.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "cpu/k.h"
#include "mmu/usandbox.h"

#define NUMBERS 600 /* 6.18 has numbers up to 470 */
#define SLOT 5      /* of the U whose filter is tried */

/* ---- K ---- */

struct vcpu *vcpus[MAX_VCPUS];
const char *ksandbox_enter(void);

enum { REFUSED = 42, RETURNED };

static void on_sigsys(int sig)
{
	(void)sig;
	_exit(REFUSED);
}

/* REFUSED, RETURNED, or the way the process ended, from a process with K's descriptors behind K's filter. */
static int in_k(long nr, long a, long b, long c, long d, long e, long f, bool compat)
{
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		static struct vcpu v;
		int null = open("/dev/null", O_RDWR), ram_fd = memfd_create("ram", 0);
		v.handoff.schedstat = -1;
		vcpus[0] = &v;
		if (null < 0 || ram_fd < 0 || ftruncate(ram_fd, 1 << 20))
			_exit(1);
		for (int fd = 0; fd < 20; fd++)
			if (fd != ram_fd && fd != null)
				dup2(null, fd);
		dup2(ram_fd, FD_RAM);
		signal(SIGSYS, on_sigsys);
		prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
		if (ksandbox_enter())
			_exit(2);
		if (compat) {
			long ret;
			asm volatile("int $0x80"
				     : "=a"(ret)
				     : "a"(nr), "b"(0), "c"(0), "d"(0), "S"(0), "D"(0)
				     : "memory", "r8", "r9", "r10", "r11");
		} else {
			sys6(nr, a, b, c, d, e, f);
		}
		_exit(RETURNED);
	}
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

/* Those that only LoL's own arguments open are tried with others below. */
static const int k_plain[] = {
	SYS_munmap,       SYS_mprotect,  SYS_futex,      SYS_timer_settime, SYS_rt_sigreturn, SYS_pidfd_send_signal,
	SYS_close,        SYS_getrandom, SYS_exit_group, SYS_getpid,        SYS_sched_yield,  SYS_restart_syscall,
	SYS_clock_gettime};

static bool on_list(int nr)
{
	for (unsigned i = 0; i < ARRAY_LEN(k_plain); i++)
		if (k_plain[i] == nr)
			return true;
	if (nr == 335 ||
	    nr == 336) /* uretprobe, uprobe: Linux 6.14 and later have no filter for these; elsewhere they fail */
		return true;
	return nr == SYS_sched_setaffinity; /* of the thread itself, pid 0 */
}

static void k_refuses_every_other_number(void **state)
{
	(void)state;
	for (int nr = 0; nr < NUMBERS; nr++) {
		if (on_list(nr))
			continue;
		int how = in_k(nr, 0, 0, 0, 0, 0, 0, false);
		if (how != REFUSED)
			fail_msg("system call %d: %d", nr, how);
	}
}

static void k_refuses_other_abis(void **state)
{
	(void)state;
	static const int some[] = {0, 1, 2, 3, 5, 20, 57, 59, 90, 102, 192, 359};
	for (unsigned i = 0; i < ARRAY_LEN(some); i++) {
		assert_int_equal(in_k(some[i], 0, 0, 0, 0, 0, 0, true), REFUSED);
		assert_int_equal(in_k(some[i] | 0x40000000, 0, 0, 0, 0, 0, 0, false), REFUSED);
	}
	assert_int_equal(in_k(512 | 0x40000000, 0, 0, 0, 0, 0, 0, false), REFUSED);
}

static void k_refuses_other_arguments(void **state)
{
	(void)state;
	long shared = MAP_SHARED | MAP_FIXED, va = 0x10000000;
	static char byte;
	long buf = (long)&byte;

	assert_int_equal(in_k(SYS_mmap, va, 4096, PROT_READ, shared, FD_RAM, 0, false), RETURNED);
	assert_int_equal(in_k(SYS_mmap, va, 4096, PROT_READ, MAP_PRIVATE | MAP_FIXED, FD_RAM, 0, false), REFUSED);
	assert_int_equal(in_k(SYS_mmap, va, 4096, PROT_READ, MAP_SHARED, FD_RAM, 0, false), REFUSED);
	assert_int_equal(in_k(SYS_mmap, va, 4096, PROT_READ, shared | MAP_ANONYMOUS, -1, 0, false), REFUSED);
	for (int fd = -1; fd < 64; fd++)
		if (fd != FD_RAM && (fd < FD_PMEM || fd >= (int)(FD_PMEM + RAM_PMEM_MAX)))
			assert_int_equal(in_k(SYS_mmap, va, 4096, PROT_READ, shared, fd, 0, false), REFUSED);
	assert_int_equal(in_k(SYS_write, FD_DOORBELL, buf, 0, 0, 0, 0, false), RETURNED);
	for (int fd = 0; fd < FD_MONITOR; fd++)
		if (fd != FD_DOORBELL && fd != 2)
			assert_int_equal(in_k(SYS_write, fd, buf, 0, 0, 0, 0, false), REFUSED);
	assert_int_equal(in_k(SYS_sendto, FD_ZYGOTE, buf, 1, 0, buf, 16, false), REFUSED);
	assert_int_equal(in_k(SYS_sendto, 2, buf, 1, 0, 0, 0, false), REFUSED);
	assert_int_equal(in_k(SYS_recvmsg, 2, buf, 0, 0, 0, 0, false), REFUSED);
	assert_int_equal(in_k(SYS_tgkill, getpid(), getpid(), 0, 0, 0, 0, false), REFUSED);
	assert_int_equal(in_k(SYS_tgkill, 1, 1, 0, 0, 0, 0, false), REFUSED);
	assert_int_equal(in_k(SYS_sched_setaffinity, 1, 8, buf, 0, 0, 0, false), REFUSED);
	assert_int_equal(in_k(SYS_pread64, FD_CTL, buf, 1, 0, 0, 0, false), REFUSED);
}

/* ---- U ---- */

/* As in stub.S: all in one page of code. */
#define IP(n) (USTUB_BASE + 0x100 + 0x40 * (n))
const uint64_t stub_table[] = {IP(0), IP(1), IP(2), IP(3), IP(4), IP(5), IP(6), IP(7), IP(8), IP(9)};
static const uint64_t secret[4] = {0x1111222233334444, 0x5555666677778888, 0x9999aaaabbbbcccc, 0xddddeeeeffff0123};
static struct sock_filter filter[USANDBOX_MAX];
static unsigned filter_length;

/* What the host's kernel makes of the filter; classic BPF as far as the filter uses it. */
static bool u_allows(const struct seccomp_data *d)
{
	uint32_t a = 0, word;

	for (unsigned pc = 0; pc < filter_length; pc++) {
		const struct sock_filter *i = &filter[pc];
		switch (i->code) {
		case BPF_LD | BPF_W | BPF_ABS:
			assert_true(i->k + 4 <= sizeof(*d));
			memcpy(&word, (const char *)d + i->k, 4);
			a = word;
			break;
		case BPF_ALU | BPF_AND | BPF_K:
			a &= i->k;
			break;
		case BPF_ALU | BPF_SUB | BPF_K:
			a -= i->k;
			break;
		case BPF_JMP | BPF_JEQ | BPF_K:
			pc += a == i->k ? i->jt : i->jf;
			break;
		case BPF_JMP | BPF_JGE | BPF_K:
			pc += a >= i->k ? i->jt : i->jf;
			break;
		case BPF_RET | BPF_K:
			assert_true(i->k == SECCOMP_RET_ALLOW || i->k == SECCOMP_RET_TRAP);
			return i->k == SECCOMP_RET_ALLOW;
		default:
			fail_msg("instruction %x", i->code);
		}
	}
	fail_msg("the filter has no end");
	return false;
}

static bool try_u(uint64_t ip, int nr, const uint64_t args[6], uint32_t arch)
{
	struct seccomp_data d = {.nr = nr, .arch = arch, .instruction_pointer = ip};
	memcpy(d.args, args, sizeof(d.args));
	return u_allows(&d);
}

/* Arguments with the secret where the filter looks for it. */
static void right_arguments(int nr, uint64_t args[6])
{
	memset(args, 0, 6 * sizeof(*args));
	args[0] = 0x10000000;
	args[1] = 4096;
	if (nr == SYS_mmap) {
		args[2] = PROT_READ | (secret[0] & 0xffffffff) << 32;
		args[3] = (MAP_SHARED | MAP_FIXED) | secret[0] >> 32 << 32;
		args[4] = U_FD_RAM | secret[1] << 32;
	} else if (nr == SYS_munmap) {
		args[2] = secret[2];
		args[3] = secret[3];
	} else if (nr == SYS_mprotect) {
		args[2] = PROT_READ;
		args[3] = secret[2];
		args[4] = secret[3];
	}
}

static void u_mapping_calls_need_the_secret(void **state)
{
	(void)state;
	static const int calls[] = {SYS_mmap, SYS_munmap, SYS_mprotect};
	static const uint64_t all_zero[6] = {0}, all_ones[6] = {~0ull, ~0ull, ~0ull, ~0ull, ~0ull, ~0ull};
	unsigned looked_at = 0;

	for (unsigned c = 0; c < ARRAY_LEN(calls); c++) {
		uint64_t args[6], changed[6];
		right_arguments(calls[c], args);
		assert_true(try_u(stub_table[STUB_SYS_BATCH], calls[c], args, AUDIT_ARCH_X86_64));
		assert_false(try_u(stub_table[STUB_SYS_BATCH], calls[c], all_zero, AUDIT_ARCH_X86_64));
		assert_false(try_u(stub_table[STUB_SYS_BATCH], calls[c], all_ones, AUDIT_ARCH_X86_64));
		for (unsigned bit = 0; bit < 384; bit++) { /* each bit of the secret counts */
			memcpy(changed, args, sizeof(args));
			changed[bit / 64] ^= 1ull << bit % 64;
			looked_at += !try_u(stub_table[STUB_SYS_BATCH], calls[c], changed, AUDIT_ARCH_X86_64);
		}
		for (uint64_t ip = USTUB_BASE; ip < USTUB_BASE + 0x1000; ip++) /* and from nowhere else */
			if (ip != stub_table[STUB_SYS_BATCH])
				assert_false(try_u(ip, calls[c], args, AUDIT_ARCH_X86_64));
		assert_false(try_u(stub_table[STUB_SYS_BATCH] - (1ull << 32), calls[c], args, AUDIT_ARCH_X86_64));
		assert_false(try_u(stub_table[STUB_SYS_BATCH], calls[c], args, AUDIT_ARCH_I386));
		assert_false(try_u(stub_table[STUB_SYS_BATCH], calls[c] | 0x40000000, args, AUDIT_ARCH_X86_64));
	}
	assert_true(looked_at >= 96 + 128 + 128);
	/* The secret does not open mappings of anything but guest memory. */
	uint64_t args[6];
	for (uint64_t fd = 0; fd < 64; fd++) {
		right_arguments(SYS_mmap, args);
		args[4] = (args[4] & ~0xffffffffull) | fd;
		bool guest_memory = fd == U_FD_RAM || (fd >= U_FD_PMEM && fd < U_FD_PMEM + U_PMEM_MAX);
		assert_int_equal(try_u(stub_table[STUB_SYS_BATCH], SYS_mmap, args, AUDIT_ARCH_X86_64), guest_memory);
	}
	for (unsigned flags = 0; flags < 0x80; flags++) {
		right_arguments(SYS_mmap, args);
		args[3] = (args[3] & ~0xffffffffull) | flags;
		assert_int_equal(try_u(stub_table[STUB_SYS_BATCH], SYS_mmap, args, AUDIT_ARCH_X86_64),
				 flags == (MAP_SHARED | MAP_FIXED));
	}
}

static void u_refuses_every_other_number(void **state)
{
	(void)state;
	uint64_t args[6];

	for (unsigned place = 0; place < ARRAY_LEN(stub_table) + 2; place++) {
		uint64_t ip = place < ARRAY_LEN(stub_table)    ? stub_table[place]
			      : place == ARRAY_LEN(stub_table) ? 0x401000
							       : UPATCH_BASE;
		for (int nr = 0; nr < NUMBERS; nr++) {
			for (unsigned k = 0; k < 4; k++) { /* several sets of arguments, the right ones among them */
				right_arguments(nr, args);
				if (k == 1)
					args[0] = USHARE_BASE;
				if (k == 2)
					args[0] = UBELLS_BASE;
				args[1] = nr == SYS_futex ? (k & 1 ? FUTEX_WAKE : FUTEX_WAIT) : args[1];
				bool allowed = try_u(ip, nr, args, AUDIT_ARCH_X86_64);
				bool mine = (place == STUB_SYS_BATCH &&
					     (nr == SYS_mmap || nr == SYS_munmap || nr == SYS_mprotect)) ||
					    (place == STUB_SYS_WAIT && nr == SYS_futex) ||
					    (place == STUB_SYS_WAKE && nr == SYS_futex) ||
					    (place == STUB_SYS_RING && nr == SYS_futex) ||
					    (place == STUB_SYS_YIELD && nr == SYS_sched_yield);
				if (allowed && !mine)
					fail_msg("system call %d at place %u", nr, place);
				assert_false(try_u(ip, nr | 0x40000000, args, AUDIT_ARCH_X86_64));
				assert_false(try_u(ip, nr, args, AUDIT_ARCH_I386));
			}
		}
	}
}

static void u_reads_what_k_sends_it_only(void **state)
{
	(void)state;
	static const struct {
		int place;
		uint64_t args[6];
	} right[] = {{STUB_SYS_READ, {U_FD_BATCH, USHARE_BASE + USHARE_BATCH, USHARE_BATCH_MAX * 64}},
		     {STUB_SYS_TOKEN, {U_FD_TOKEN, USHARE_BASE + US_TOKEN, 8}}};
	uint64_t args[6];

	for (unsigned i = 0; i < ARRAY_LEN(right); i++) {
		for (int place = 0; place < (int)ARRAY_LEN(stub_table); place++)
			assert_int_equal(try_u(stub_table[place], SYS_read, right[i].args, AUDIT_ARCH_X86_64),
					 place == right[i].place);
		for (unsigned bit = 0; bit < 192; bit++) {
			if (bit >= 32 && bit < 64) /* the host takes 32 bits of a descriptor */
				continue;
			memcpy(args, right[i].args, sizeof(args));
			args[bit / 64] ^= 1ull << bit % 64;
			assert_false(try_u(stub_table[right[i].place], SYS_read, args, AUDIT_ARCH_X86_64));
		}
	}
}

static void u_futex_is_for_turns_and_bells(void **state)
{
	(void)state;
	static const struct {
		int place;
		uint64_t word;
		bool alone; /* this word, not all of its page */
		uint32_t op;
	} right[] = {{STUB_SYS_WAIT, UBELLS_BASE + 4 * SLOT, true, FUTEX_WAIT},
		     {STUB_SYS_WAKE, USHARE_BASE, false, FUTEX_WAKE},
		     {STUB_SYS_RING, UBELLS_BASE, false, FUTEX_WAKE}};

	for (unsigned i = 0; i < ARRAY_LEN(right); i++) {
		for (uint32_t op = 0; op < 512; op++) {
			uint64_t args[6] = {right[i].word, op, 1};
			assert_int_equal(try_u(stub_table[right[i].place], SYS_futex, args, AUDIT_ARCH_X86_64),
					 op == right[i].op);
		}
		for (uint64_t word = USHARE_BASE - 0x10000; word < UBELLS_BASE + 0x10000; word += 4) {
			uint64_t args[6] = {word, right[i].op, 1};
			bool good = right[i].alone ? word == right[i].word : (word & ~4095ull) == right[i].word;
			assert_int_equal(try_u(stub_table[right[i].place], SYS_futex, args, AUDIT_ARCH_X86_64), good);
			args[0] |= 1ull << 32;
			assert_false(try_u(stub_table[right[i].place], SYS_futex, args, AUDIT_ARCH_X86_64));
		}
	}
}

static int make_filter(void **state)
{
	(void)state;
	filter_length = usandbox_filter(filter, SLOT, secret);
	assert_true(filter_length > 0 && filter_length <= USANDBOX_MAX);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(k_refuses_every_other_number),
		cmocka_unit_test(k_refuses_other_abis),
		cmocka_unit_test(k_refuses_other_arguments),
		cmocka_unit_test_setup(u_mapping_calls_need_the_secret, make_filter),
		cmocka_unit_test_setup(u_refuses_every_other_number, make_filter),
		cmocka_unit_test_setup(u_reads_what_k_sends_it_only, make_filter),
		cmocka_unit_test_setup(u_futex_is_for_turns_and_bells, make_filter),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
