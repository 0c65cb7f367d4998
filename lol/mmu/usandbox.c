/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The filter of a U process, as classic BPF.
 *
 * Runs in the zygote's child.  libseccomp cannot compare instruction pointers or
 * upper argument halves with per-process secrets, hence by hand.  Allowed:
 *
 *  - at stub_sys_batch: mmap, munmap, mprotect with the secret in the argument
 *    bits that the kernel ignores (mmap: upper halves of prot, flags and fd;
 *    munmap: arguments 3 and 4; mprotect: arguments 4 and 5);
 *  - at stub_sys_read: read of the pipe that batches come through, into the batch's place;
 *  - at stub_sys_token: read of the eventfd that tokens come through, into the token's place;
 *  - at stub_sys_wait, stub_sys_wake, stub_sys_ring: futex wait on a bell, wake on the own turn word, wake on a bell;
 *  - at stub_sys_yield: sched_yield.
 *
 * Everything else is SIGSYS: a guest system call.
 */
#include "usandbox.h"

#include "types.h"

#include <linux/audit.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/syscall.h>

struct emit {
	struct sock_filter *f;
	unsigned n;
};

static void op(struct emit *e, uint16_t code, uint8_t jt, uint8_t jf, uint32_t k)
{
	e->f[e->n++] = (struct sock_filter){code, jt, jf, k};
}

static void load(struct emit *e, unsigned offset)
{
	op(e, BPF_LD | BPF_W | BPF_ABS, 0, 0, offset);
}

/* Continue when the accumulator is k, otherwise trap: the trap stands right behind. */
static void demand(struct emit *e, uint32_t k)
{
	op(e, BPF_JMP | BPF_JEQ | BPF_K, 1, 0, k);
	op(e, BPF_RET | BPF_K, 0, 0, SECCOMP_RET_TRAP);
}

static void demand_word(struct emit *e, unsigned offset, uint32_t k)
{
	load(e, offset);
	demand(e, k);
}

#define ARG_LO(i) (offsetof(struct seccomp_data, args) + 8 * (i))
#define ARG_HI(i) (ARG_LO(i) + 4)
#define IP_LO offsetof(struct seccomp_data, instruction_pointer)

static void allow(struct emit *e)
{
	op(e, BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW);
}

/* Start of a block that only runs for system call nr; the returned index is patched by block_end(). */
static unsigned block_begin(struct emit *e, uint32_t nr)
{
	load(e, offsetof(struct seccomp_data, nr));
	op(e, BPF_JMP | BPF_JEQ | BPF_K, 0, 0, nr);
	return e->n - 1;
}

static void block_end(struct emit *e, unsigned start)
{
	allow(e);
	e->f[start].jf = (uint8_t)(e->n - start - 1);
}

static void secret_pair(struct emit *e, unsigned arg, uint64_t lo_hi)
{
	demand_word(e, ARG_LO(arg), (uint32_t)lo_hi);
	demand_word(e, ARG_HI(arg), (uint32_t)(lo_hi >> 32));
}

/* At ip: read of this descriptor to this place in the slice. */
static void read_block(struct emit *e, uint64_t ip, uint32_t fd, uint64_t offset, uint32_t len)
{
	load(e, IP_LO);
	op(e, BPF_JMP | BPF_JEQ | BPF_K, 0, 0, (uint32_t)ip);
	unsigned other = e->n - 1;

	demand_word(e, offsetof(struct seccomp_data, nr), SYS_read);
	demand_word(e, ARG_LO(0), fd);
	demand_word(e, ARG_LO(1), (uint32_t)(USHARE_BASE + offset));
	demand_word(e, ARG_HI(1), (uint32_t)((USHARE_BASE + offset) >> 32));
	demand_word(e, ARG_LO(2), len);
	demand_word(e, ARG_HI(2), 0);
	allow(e);
	e->f[other].jf = (uint8_t)(e->n - other - 1);
}

unsigned usandbox_filter(struct sock_filter *f, unsigned slot, const uint64_t secret[4])
{
	struct emit e = {f, 0};
	uint64_t batch = stub_table[STUB_SYS_BATCH];
	const struct {
		uint64_t ip, word;
		uint32_t mask, op;
	} futex[] = {{stub_table[STUB_SYS_WAIT], UBELLS_BASE + 4 * slot, ~0u, FUTEX_WAIT},
		     {stub_table[STUB_SYS_WAKE], USHARE_BASE, ~4095u, FUTEX_WAKE},
		     {stub_table[STUB_SYS_RING], UBELLS_BASE, ~4095u, FUTEX_WAKE}};

	demand_word(&e, offsetof(struct seccomp_data, arch), AUDIT_ARCH_X86_64);
	demand_word(&e, IP_LO + 4, (uint32_t)(batch >> 32)); /* all of the stub has the same upper half */

	/* The batch. */
	load(&e, IP_LO);
	op(&e, BPF_JMP | BPF_JEQ | BPF_K, 0, 0, (uint32_t)batch);
	unsigned not_batch = e.n - 1, b;

	b = block_begin(&e, SYS_mmap);
	demand_word(&e, ARG_HI(2), (uint32_t)secret[0]);
	demand_word(&e, ARG_HI(3), (uint32_t)(secret[0] >> 32));
	demand_word(&e, ARG_HI(4), (uint32_t)secret[1]);
	demand_word(&e, ARG_LO(3), MAP_SHARED | MAP_FIXED);
	/* The descriptors of guest memory and nothing else: RAM, or one of pmem's. */
	load(&e, ARG_LO(4));
	op(&e, BPF_JMP | BPF_JEQ | BPF_K, 3, 0, U_FD_RAM);
	op(&e, BPF_JMP | BPF_JGE | BPF_K, 0, 1, U_FD_PMEM);
	op(&e, BPF_JMP | BPF_JGT | BPF_K, 0, 1, U_FD_PMEM + U_PMEM_MAX - 1);
	op(&e, BPF_RET | BPF_K, 0, 0, SECCOMP_RET_TRAP);
	block_end(&e, b);

	b = block_begin(&e, SYS_munmap);
	secret_pair(&e, 2, secret[2]);
	secret_pair(&e, 3, secret[3]);
	block_end(&e, b);

	b = block_begin(&e, SYS_mprotect);
	secret_pair(&e, 3, secret[2]);
	secret_pair(&e, 4, secret[3]);
	block_end(&e, b);
	op(&e, BPF_RET | BPF_K, 0, 0, SECCOMP_RET_TRAP);
	e.f[not_batch].jf = (uint8_t)(e.n - not_batch - 1);

	read_block(&e, stub_table[STUB_SYS_TOKEN], U_FD_TOKEN, US_TOKEN, 8);
	read_block(&e, stub_table[STUB_SYS_READ], U_FD_BATCH, USHARE_BATCH, USHARE_BATCH_MAX * 64);

	/* Sleep on the own bell, wake K, ring a bell: futex words in the slice's first page and in the page of bells. */
	for (unsigned i = 0; i < ARRAY_LEN(futex); i++) {
		load(&e, IP_LO);
		op(&e, BPF_JMP | BPF_JEQ | BPF_K, 0, 0, (uint32_t)futex[i].ip);
		unsigned other = e.n - 1;
		demand_word(&e, offsetof(struct seccomp_data, nr), SYS_futex);
		demand_word(&e, ARG_HI(0), (uint32_t)((uint64_t)USHARE_BASE >> 32));
		load(&e, ARG_LO(0));
		op(&e, BPF_ALU | BPF_AND | BPF_K, 0, 0, futex[i].mask);
		demand(&e, (uint32_t)futex[i].word);
		demand_word(&e, ARG_LO(1), futex[i].op);
		allow(&e);
		e.f[other].jf = (uint8_t)(e.n - other - 1);
	}
	load(&e, IP_LO);
	demand(&e, (uint32_t)stub_table[STUB_SYS_YIELD]);
	demand_word(&e, offsetof(struct seccomp_data, nr), SYS_sched_yield);
	allow(&e);
	return e.n;
}
