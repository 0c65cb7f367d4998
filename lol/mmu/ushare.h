/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What K shares with one U: a slice of the ushare memfd.  U maps its own slice at
 * USHARE_BASE, K maps all of them.  Guest user code can write every byte of its
 * slice, so K treats it as the guest's own word about its own registers and
 * believes nothing else in it.
 *
 * This header is also read by the assembler (stub.S).
 */
#ifndef LOL_USHARE_H
#define LOL_USHARE_H

#define USTUB_BASE 0x600000000000  /* the stub's code, the same page(s) in every U */
#define USHARE_BASE 0x600000100000 /* the U's slice */
#define USHARE_SIZE 0x10000
#define USHARE_BATCH 0x1000 /* offset: operations, USHARE_BATCH_MAX of 64 bytes */
#define USHARE_BATCH_MAX 64
#define USHARE_XAREA 0x2000     /* offset: XSAVE area, 64-byte aligned, 4 KiB */
#define USHARE_STACK_TOP 0x4000 /* offset: the stub's own small stack grows down from here */
#define USHARE_ALTSTACK 0x4000  /* offset */
#define USHARE_ALTSTACK_SIZE 0xc000
#define USHARE_FRAMES 0x2000    /* of it: a signal frame, with AVX-512 3.6 KiB, and no kick in it */
#define UBATCH_SKIP 0xfffffffd  /* nothing */
#define UBATCH_DONE 0xfffffffe  /* the end: arg 0 is K's token, which goes into batch_done */
#define UBATCH_TOUCH 0xffffffff /* as an operation's nr: read a byte in every 64 KiB of [arg 0, arg 1) */
#define MAX_U 256
/*
 * One page of bells behind the slices, mapped by every U: the futex words that U's sleep on. Any guest program can
 * write them, which wakes a U for nothing or makes it look again; whose turn it is stands in the slice.
 */
#define UBELLS_BASE (USHARE_BASE + USHARE_SIZE)
#define UBELLS_OFFSET (MAX_U * USHARE_SIZE) /* in the memfd */

#define U_FD_BATCH 0 /* a pipe from K: the batches */
#define U_FD_TOKEN 1 /* an eventfd: a token, for UCMD_PARK */
#define U_FD_RAM 3
#define U_FD_PMEM 11 /* and U_PMEM_MAX - 1 behind it */
#define U_PMEM_MAX 4

/*
 * The low window of a U: table and trampolines of rewritten system calls (utramp.c), read-only. The table's addresses are
 * part of the code that is put over a site: their third byte, 06, must be an opcode that 64-bit mode does not have.
 */
#define UPATCH_BASE 0x60000
#define UPATCH_WINDOW 0x58000
#define PATCH_TABLE_SIZE 0x8000
#define USHARE_LOW 0x5f000             /* the slice's first page once more, where trampolines reach it */
#define USTUB_SYSCALL (USTUB_BASE + 8) /* entry of the stub from trampolines */

/* turn */
#define TURN_K 0
#define TURN_U 1

/* why (U to K): the host signal, or */
#define WHY_DONE 0      /* commands done, guest code did not run */
#define WHY_SYSCALL 100 /* a system call from a trampoline, no signal */
#define WHY_KICKED 101  /* a kick came before guest code was entered: its registers are as K gave them */

/* cmd (K to U) */
#define UCMD_BATCH 1
#define UCMD_XSAVE 2
#define UCMD_XRSTOR 4
#define UCMD_BASES 8
#define UCMD_RESUME 16
#define UCMD_FAST 64    /* with RESUME: back from a system call, with rax, rip and efl of the first line, by a jump */
#define UCMD_OWN 2048   /* with FAST: the other registers are those of its last system call, which the stub has kept */
#define UCMD_SEGS 128   /* with BASES: load ds, es, fs, gs */
#define UCMD_XINUSE 256 /* with XSAVE: only what is not in its initial state */
#define UCMD_HANDOFF 32 /* alone: make room for another U of this CPU; nothing is reported */
#define UCMD_PARK 1024  /* without RESUME: read the token, to show that the thread waits */
#define UCMD_RING 512   /* with HANDOFF: that U sleeps, ring its bell */

#define U_SIG_KICK 10 /* SIGUSR1 */

/*
 * Offsets in struct ushare, checked by static asserts below.  A cache line on its way from one CPU to the other takes 50
 * to 300 ns, so all that most system calls change is in the first line, what sleepers say is not, and nobody writes what
 * has that value already.  Each side looks at the first line all the time that it waits, so it is written in one go.
 */
#define US_TURN 0
#define US_CHANGED 4
#define US_CMD 8
#define US_WHY 12
#define US_RAX 16
#define US_BACK 24
#define US_EFL 32
#define US_NUMBER 36
#define US_WORD 40
#define US_RIP 40
#define US_RCX 48
#define US_REGS 64
#define US_SEGS 248
#define US_SI_ARCH 256
#define US_DEAD 260
#define US_SLOT 264
#define US_NEXT 268
#define US_BATCH_DONE 272
#define US_BATCH_ERR 280
#define US_SPIN 284
#define US_XMASK 288
#define US_FSBASE 296
#define US_GSBASE 304
#define US_CALL_ADDR 312
#define US_TOKEN 320
#define US_SLEPT_AT 328
#define US_U_SLEEPS 336
#define US_K_SLEEPS 340
#define US_KICK 344
#define US_OWN 384
#define US_HINT 512
#define US_HINTS 64
#define US_HINT_INDEX 4
#define US_HINT_MANY 7

/* index in regs[]: the order of the host's gregset_t, so that the handler copies in one go */
#define UR_R8 0
#define UR_R9 1
#define UR_R10 2
#define UR_R11 3
#define UR_R12 4
#define UR_R13 5
#define UR_R14 6
#define UR_R15 7
#define UR_RDI 8
#define UR_RSI 9
#define UR_RBP 10
#define UR_RBX 11
#define UR_RDX 12
#define UR_RAX 13
#define UR_RCX 14
#define UR_RSP 15
#define UR_RIP 16
#define UR_EFL 17
#define UR_CSGSFS 18
#define UR_ERR 19
#define UR_TRAPNO 20
#define UR_OLDMASK 21
#define UR_CR2 22
#define UR_COUNT 23
#define UR_KEPT 0x9ff7 /* those that a system call keeps: all of the first 16 but rax, rcx and r11 */
#define US_WORDS 3

#ifndef __ASSEMBLER__
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

struct ushare {
	_Atomic uint32_t turn; /* TURN_*: whose turn it is; K's futex */
	/* [U] WHY_SYSCALL: 1 << UR_*, at most US_WORDS of UR_KEPT, lowest first in word[]: for these regs[] is not true */
	uint32_t changed;
	uint32_t cmd;    /* [K] */
	uint32_t why;    /* [U] */
	uint64_t rax;    /* [U] WHY_SYSCALL: number of the system call; [K] UCMD_FAST: its result */
	uint64_t back;   /* [K] where the trampoline that U is resumed in leads to */
	uint32_t efl;    /* [U] WHY_SYSCALL, [K] UCMD_FAST: flags */
	uint32_t number; /* [U] WHY_SYSCALL: of the site */
	union {
		uint64_t word[US_WORDS]; /* [U] WHY_SYSCALL */
		struct {
			uint64_t rip, rcx; /* [K] UCMD_FAST: where to go on, and rip as the guest knows it */
		};
	};
	uint64_t regs
		[UR_COUNT]; /* [U] at an event, [K] at a resume; rax, rcx, r11, rip and flags not in the fast forms */
	uint16_t seg[4];    /* [U] at an event, [K] for UCMD_SEGS: ds es fs gs */
	uint32_t sys_arch;  /* [U] AUDIT_ARCH of a trapped system call */
	_Atomic uint32_t dead;     /* [zygote] the process has ended */
	uint32_t slot;             /* [K] number of the bell */
	uint32_t next;             /* [K] UCMD_HANDOFF: whose bell to ring */
	uint64_t batch_done;       /* [U] the token of the batch that has been run */
	int32_t batch_err;         /* [U] first failed one's errno, negative, or 0 */
	uint32_t spin;             /* [K] iterations to spin before sleeping */
	uint64_t xmask;            /* [K] features for XSAVE/XRSTOR */
	uint64_t fsbase, gsbase;   /* [K] and [U] */
	uint64_t call_addr;        /* [U] what the host says about a trapped system call's place */
	uint64_t token;            /* [U] the last one that it has read, see UCMD_PARK */
	uint64_t slept_at;         /* [U] time stamp counter when it went to sleep last */
	_Atomic uint32_t u_sleeps; /* U sleeps on its bell, or is about to */
	_Atomic uint32_t k_sleeps; /* K sleeps on turn, likewise */
	_Atomic uint32_t kick;     /* [K] do not enter guest code: K has an interrupt for it */
	/* The rest is U's own; K does not touch these lines. The registers of the last system call (UR_KEPT): */
	uint64_t own[16] __attribute__((aligned(64)));
	/*
	 * What had changed at the last call of a site (its number modulo US_HINTS): what the CPU takes for granted until it has
	 * compared all of them.
	 */
	struct {
		uint32_t changed;
		uint8_t index[US_WORDS]; /* UR_* */
		uint8_t many;            /* more than US_WORDS: a line of regs[] changes, too */
	} hint[US_HINTS];
};

struct ubatch_op {
	uint64_t nr, arg[6], pad;
};

_Static_assert(offsetof(struct ushare, why) == US_WHY, "layout");
_Static_assert(offsetof(struct ushare, cmd) == US_CMD, "layout");
_Static_assert(offsetof(struct ushare, kick) == US_KICK, "layout");
_Static_assert(offsetof(struct ushare, rax) == US_RAX, "layout");
_Static_assert(offsetof(struct ushare, rip) == US_RIP, "layout");
_Static_assert(offsetof(struct ushare, efl) == US_EFL, "layout");
_Static_assert(offsetof(struct ushare, back) == US_BACK, "layout");
_Static_assert(offsetof(struct ushare, rcx) == US_RCX, "layout");
_Static_assert(offsetof(struct ushare, changed) == US_CHANGED, "layout");
_Static_assert(offsetof(struct ushare, number) == US_NUMBER, "layout");
_Static_assert(offsetof(struct ushare, word) == US_WORD, "layout");
_Static_assert(offsetof(struct ushare, u_sleeps) == US_U_SLEEPS, "layout");
_Static_assert(offsetof(struct ushare, k_sleeps) == US_K_SLEEPS, "layout");
_Static_assert(offsetof(struct ushare, own) == US_OWN, "layout");
_Static_assert(offsetof(struct ushare, hint) == US_HINT, "layout");
_Static_assert(offsetof(struct ushare, hint[0].index) == US_HINT + US_HINT_INDEX, "layout");
_Static_assert(offsetof(struct ushare, hint[0].many) == US_HINT + US_HINT_MANY, "layout");
_Static_assert(sizeof(struct ushare) <= USHARE_BATCH - 256 * 8,
	       "an index that a program has put there leads into the slice");
_Static_assert(offsetof(struct ushare, regs) == US_REGS, "layout");
_Static_assert(offsetof(struct ushare, seg) == US_SEGS, "layout");
_Static_assert(offsetof(struct ushare, sys_arch) == US_SI_ARCH, "layout");
_Static_assert(offsetof(struct ushare, dead) == US_DEAD, "layout");
_Static_assert(offsetof(struct ushare, next) == US_NEXT, "layout");
_Static_assert(offsetof(struct ushare, batch_done) == US_BATCH_DONE, "layout");
_Static_assert(offsetof(struct ushare, spin) == US_SPIN, "layout");
_Static_assert(offsetof(struct ushare, xmask) == US_XMASK, "layout");
_Static_assert(offsetof(struct ushare, fsbase) == US_FSBASE, "layout");
_Static_assert(offsetof(struct ushare, gsbase) == US_GSBASE, "layout");
_Static_assert(offsetof(struct ushare, call_addr) == US_CALL_ADDR, "layout");
_Static_assert(offsetof(struct ushare, token) == US_TOKEN, "layout");
_Static_assert(offsetof(struct ushare, slept_at) == US_SLEPT_AT, "layout");
_Static_assert(MAX_U * 4 <= 4096, "one page of bells");

/* Addresses in the stub, for the zygote: see stub.S. */
enum {
	STUB_HANDLER,
	STUB_RESTORER,
	STUB_START,
	STUB_SYS_BATCH,
	STUB_SYS_WAIT,
	STUB_SYS_WAKE,
	STUB_SYS_RING,
	STUB_SYS_YIELD,
	STUB_SYS_READ,
	STUB_SYS_TOKEN
};
extern const uint64_t stub_table[];

/* A request to the zygote over FD_ZYGOTE (K to zygote), answered by one byte 0 and a pidfd. */
struct u_request {
	uint32_t slot;      /* slice of the ushare memfd */
	int32_t cpu;        /* host CPU to run on, -1: any */
	uint64_t secret[4]; /* what the filter demands of every mapping call */
};
#endif
#endif
