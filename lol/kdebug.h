/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the monitor and K share for debugging; part of struct kctl. vstate.h has the vCPUs' state and how they rest.
 *
 * The debugger's tables (breakpoints, their conditions) are changed only while every vCPU rests.
 *
 * The writer of every field is named: [M] monitor, [K] guest-kernel process. The monitor believes nothing of [K].
 */
#ifndef LOL_KDEBUG_H
#define LOL_KDEBUG_H

#include <stdatomic.h>
#include "types.h"

#define KBREAK_MAX 512
#define KAGENT_BYTES 32768
#define KSITES_MAX 65536

/* The debugger's numbers of registers that conditions may name, besides rax to eflags, 0 to 17 (lol/gdb/regs.c). */
enum { KREG_FS_BASE = 57, KREG_GS_BASE = 58, KREG_CR3 = 78, KREG_CPL = 88 };

/* A software breakpoint: an int3 that the monitor has put into guest RAM. */
struct kbreak {
	gva_t va;     /* where the int3 is; 0: free */
	gva_t report; /* the address that the debugger asked for: not va for an instruction behind its site's padding */
	gpa_t gpa;    /* of the int3 */
	uint32_t agent, agent_len; /* the condition in agent[], 0 bytes: none */
	uint32_t generation;       /* differs whenever the entry is another breakpoint */
	uint8_t original;          /* the byte under the int3 */
	uint8_t pad[3];
};

/* A rewritten site, so that readers of guest text can be shown what was there. */
struct ksite {
	gva_t start;      /* of the region; 0: none yet */
	uint8_t off, len; /* of the instruction in the region */
	uint8_t region;   /* bytes */
	uint8_t kind;     /* IVMM_* */
	uint8_t code[15]; /* the instruction */
	uint8_t pad[5];
};

struct kdebug {
	uint32_t nbreaks; /* [M] entries in use in breaks[] */
	uint32_t
		watching_user; /* [M] bit n: watch[n] is for user code, which K steps; kernel code has the host's registers */
	uint32_t
		text_changed; /* [M] bumped when guest text was written: rewritten copies of user pages are looked at again */
	uint32_t nsites; /* [K] */
	struct {
		gva_t va;
		uint32_t kind;            /* as in DR7: 0 execution, 1 write, 3 access */
		uint32_t size;            /* bytes */
	} watch[4];                       /* [M] */
	_Atomic uint64_t hits, misses;    /* [K] breakpoints whose condition held, did not hold */
	struct kbreak breaks[KBREAK_MAX]; /* [M] */
	uint8_t agent[KAGENT_BYTES];      /* [M] */
	struct ksite sites[KSITES_MAX];   /* [K] */
};

#endif
