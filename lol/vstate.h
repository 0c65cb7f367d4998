/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Bringing vCPUs to rest, and their state while they are: the words between the monitor (lol/park.h) and K
 * (lol/cpu/park.c). For pause, dumps and gdb.
 *
 * One struct park a vCPU, in the control page.  `want` says who wants the vCPU to rest, as a number:
 *
 *   0              nobody: it runs
 *   PARK_SELF      [K] itself: it has met a breakpoint or the like; `reason` says what
 *   any other      [M] the monitor; a new number for each time, so that an old answer is not taken for a new one
 *
 * K answers with the same number in `at_rest` when the vCPU stands at an instruction boundary of the guest, `state` is
 * true and nothing of it runs, neither in K nor in a U; then it rings the doorbell. It goes on when `want` is 0, with
 * what `state` says about the registers that `changed` names (of any vCPU that rests).
 *
 * The monitor believes nothing here but for showing it to a user.
 */
#ifndef LOL_VSTATE_H
#define LOL_VSTATE_H

#include <stdatomic.h>
#include <stdint.h>

#define PARK_SELF 0xffffffffu
#define PARK_CHANGED 1u            /* general registers, rip, flags, FS and GS bases */
#define PARK_CHANGED_XSTATE 2u     /* x87, SSE, AVX */
enum { PARK_GO_ON, PARK_GO_STEP }; /* PARK_GO_STEP: execute one instruction, or those of a range, then rest by itself */
enum park_reason { PARK_ASKED, PARK_STEPPED, PARK_BREAK, PARK_WATCH, PARK_USER_WATCH };
#define PARK_XSTATE 4096 /* bytes */

/* es cs ss ds fs gs, as on the instruction level */
enum { SEG_ES, SEG_CS, SEG_SS, SEG_DS, SEG_FS, SEG_GS };

/* What the guest would see, not the host: guest selectors, virtual interrupt flag, privilege level of the guest. */
struct vcpu_state {
	uint64_t r[16]; /* by x86 number: rax rcx rdx rbx rsp rbp rsi rdi r8 to r15 */
	uint64_t rip, rflags;
	uint64_t cr0, cr2, cr3, cr4, xcr0, efer, dr[8];
	uint64_t fs_base, gs_base, kernel_gs_base; /* gs_base: in force now; kernel_gs_base: what swapgs brings */
	uint64_t gdt_base, idt_base, tss_base;
	uint64_t star, lstar, cstar, fmask, sysenter[3], tsc_aux, apic_base, pat;
	uint16_t gdt_limit, idt_limit, tr, ldtr, sel[6];
	uint32_t cpl;
	uint32_t xsize;                                           /* bytes of xstate in use */
	uint8_t xstate[PARK_XSTATE] __attribute__((aligned(64))); /* of the guest's user code, XSAVE standard format */
};

struct park {
	_Atomic uint32_t want;    /* [M] and [K]; a futex that K sleeps on */
	_Atomic uint32_t at_rest; /* [K] */
	_Atomic uint32_t started; /* [K] 1: this vCPU exists and will answer */
	uint32_t reason;          /* [K] enum park_reason */
	_Atomic uint32_t changed; /* [M] bits PARK_CHANGED*: load state on the way out; [K] clears */
	uint32_t go;   /* [M] while at rest: how to go on, PARK_GO_*; before it rests, [K] sets what it was about */
	uint64_t addr; /* [K] PARK_BREAK: of the breakpoint; PARK_USER_WATCH: what was watched */
	uint64_t range
		[2]; /* [M] while at rest: first address of the range of a step, and the one behind it; 0 0: none */
	struct vcpu_state state; /* [K], while at rest [M] */
} __attribute__((aligned(64)));

#endif
