/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The debugger's part of K: breakpoints, conditions, single steps.  What the guest's own debuggers do is none of it
 * (watch.c, inject()).  Runs in K, on the thread of the vCPU.
 *
 * A breakpoint is an int3 in guest RAM (kctl->debug.breaks). Going on over one needs the instruction that it hides:
 *
 *   a site               its emulation, or its trampoline
 *   the usual few        done here, by hand
 *   others               a copy out of line, followed by a jump back
 *   what depends on its  the byte is put back for one step of this vCPU; another may run past meanwhile
 *   place
 *
 * A step runs one instruction as the debugger sees it and takes no interrupts. In user code that includes the page fault
 * that the guest kernel serves for it, with what else that has to do: the step goes on when the program does.
 */
#ifndef LOL_DEBUG_H
#define LOL_DEBUG_H

#include "cpu/k.h"

/* Where a vCPU stands; what the debugger changes is changed in place. */
struct parked {
	struct gregs *g;
	unsigned cpl;      /* 0: guest kernel code, 3: guest user code */
	uint64_t *gs_base; /* of user code; NULL for kernel code, whose GS base is in the register */
	bool signal;       /* in a signal's handler, not on the way out of the IVMM */
};

/* Kernel code. */
bool debug_trap(struct vcpu *v, struct parked *p, uint32_t trapno, int code); /* SIGTRAP in K; true: done with it */
void debug_attention(struct vcpu *v, struct parked *p);                       /* the vCPU is to stop at p */
gva_t debug_guest_rip(gva_t rip); /* rip, where it is in a copy out of line: the guest's rip */
bool debug_fault_begin(struct vcpu *v,
		       struct gregs *g); /* a fault in kernel code: take the step's TF away; true: in a step */
void debug_fault_end(struct vcpu *v, struct parked *p, gva_t rip); /* ... is served; rip was the place of it */
bool debug_break_at(gva_t va);                                     /* a site that begins there */
void debug_tables(void);                                           /* the monitor has changed the breakpoints */
extern bool
	debug_apart; /* a breakpoint is on an iretq or sysretq: they are not to be joined with the swapgs in front */
bool debug_read_text(gva_t va, uint8_t *buf, size_t n); /* as k_read(), without the breakpoints */

/* User code, in enter_user(). */
void debug_user_stop(struct vcpu *v, struct parked *p); /* before guest code runs: stop if need be */
bool debug_user_break(struct vcpu *v, struct gregs *g); /* an int3: the debugger's? Then g is at it. */
/* After guest code ran, from rip; left: the guest kernel goes on. */
void debug_user_event(struct vcpu *v, bool stepped, bool left, gva_t rip);
extern bool debug_faulted; /* a step waits for the guest kernel to serve its page fault */

void debug_user_watch(struct vcpu *v, gva_t addr); /* the step that ends has touched addr */
extern bool debug_watching;                        /* watch.c looks for the debugger, too */

/* debug-hand.c: true: the instruction with the bytes c is done and p->g stands behind it; false: it is none of the usual few. */
bool debug_by_hand(struct vcpu *v, const struct parked *p, const uint8_t c[15]);

/* agent.c: the value of a bytecode expression; false: it cannot be computed here. */
struct agent_regs {
	const struct gregs *g;
	unsigned cpl;
	uint64_t rflags, gs_base;
};
bool agent_run(struct vcpu *v, const struct agent_regs *r, const uint8_t *code, size_t n, uint64_t *value);

#endif
