/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A vCPU comes to rest at an instruction boundary of the guest, because the monitor wants it to (lol/vstate.h) or at a
 * breakpoint. Runs in K, site or signal context.
 *
 * The monitor sets `want` and kicks. The handler of the kick notes it in vh.park (park_notice), and the vCPU rests at the
 * first of these places that it comes by: the handler itself when guest kernel code was interrupted (trap.c), the way
 * out of the IVMM (entry.S, ivmm_deliver), the turn of a U (enter_user). A kick goes to any one thread of K; the thread
 * that gets it passes it on.
 */
#include <linux/futex.h>
#include <sys/syscall.h>

#include "cpu/debug.h"
#include "mmu/upatch.h"

K_ALLOW(futex);
K_ALLOW(write, SCMP_A0(SCMP_CMP_EQ, FD_DOORBELL));

static void doorbell(void)
{
	uint64_t one = 1;
	sys3(SYS_write, FD_DOORBELL, &one, 8);
}

void park_notice(struct vcpu *v)
{
	static _Atomic uint32_t told[MAX_VCPUS]; /* the last `want` that was passed on */

	if (atomic_load_explicit(&kctl->park[v->id].want, memory_order_relaxed))
		vh.park = 1;
	for (unsigned i = 0; i < kctl->ncpus && i < MAX_VCPUS; i++) {
		uint32_t want = atomic_load_explicit(&kctl->park[i].want, memory_order_relaxed);
		if (i != v->id && vcpus[i] && want && want != PARK_SELF &&
		    atomic_load(&kctl->park[i].at_rest) != want && atomic_exchange(&told[i], want) != want) {
			/* Also where no signal is needed to wake it. When it clears the word, it looks at `want` again. */
			__atomic_store_n(&vcpus[i]->hot->park, 1, __ATOMIC_SEQ_CST);
			vcpu_kick(vcpus[i]);
		}
	}
}

static void publish(struct vcpu *v, const struct gregs *g, unsigned cpl, uint64_t gs, struct vcpu_state *s)
{
	for (int i = 0; i < 16; i++)
		s->r[i] = g->r[i];
	s->rip = g->rip;
	s->rflags = cpl == 3 ? g->rflags : (g->rflags & ~(uint64_t)(FL_IF | FL_IOPL)) | (vh.vflags & FL_IF) | 2;
	s->cr0 = v->cr0;
	s->cr2 = v->cr2;
	s->cr3 = v->cr3;
	s->cr4 = v->cr4;
	s->xcr0 = v->xcr0;
	s->efer = v->efer;
	for (int i = 0; i < 8; i++)
		s->dr[i] = v->dr[i];
	s->fs_base = v->fs_base;
	s->gs_base = gs;
	s->kernel_gs_base = vh.swapped_gs;
	s->gdt_base = v->gdt_base;
	s->idt_base = v->idt_base;
	s->tss_base = v->tss_base;
	s->star = v->star;
	s->lstar = v->lstar;
	s->cstar = v->cstar;
	s->fmask = v->fmask;
	for (int i = 0; i < 3; i++)
		s->sysenter[i] = v->sysenter[i];
	s->tsc_aux = v->tsc_aux;
	s->apic_base = v->apic_base;
	s->pat = v->pat;
	s->gdt_limit = v->gdt_limit;
	s->idt_limit = v->idt_limit;
	s->tr = v->tr;
	s->ldtr = v->ldtr;
	for (int i = 0; i < 6; i++)
		s->sel[i] = v->sel[i];
	s->sel[SEG_CS] = cpl == 3 ? v->user_cs : SEL_KERNEL_CS;
	s->sel[SEG_SS] = cpl == 3 ? SEL_USER_DS : SEL_KERNEL_DS;
	s->cpl = cpl;
	s->xsize = xstate_size(xcr0_allowed());
	if (s->xsize > PARK_XSTATE)
		s->xsize = PARK_XSTATE;
	__builtin_memcpy(s->xstate, v->stage, s->xsize);
}

static bool canonical(uint64_t base)
{
	return base < 1ull << 47;
}

static void take_over(struct vcpu *v, const struct parked *p, const struct vcpu_state *s)
{
	struct gregs *g = p->g;
	uint64_t changeable = FL_ARITH | FL_DF | FL_TF | FL_AC | FL_RF | (p->cpl ? FL_NT : 0);

	for (int i = 0; i < 16; i++)
		g->r[i] = s->r[i];
	g->rip = s->rip;
	g->rflags = (g->rflags & ~changeable) | (s->rflags & changeable);
	if (p->cpl == 0)
		vh.vflags = (s->rflags & FL_IF) | 2;
	if (canonical(s->fs_base))
		v->fs_base = s->fs_base;
	if (canonical(s->kernel_gs_base))
		vh.swapped_gs = s->kernel_gs_base;
	if (!canonical(s->gs_base))
		return;
	if (p->gs_base)
		*p->gs_base = s->gs_base;
	else
		wrgsbase(s->gs_base);
}

/* x87, SSE and AVX of user code, which the debugger knows; the image was ours, and the monitor is trusted. */
static void take_over_vectors(struct vcpu *v, const struct vcpu_state *s)
{
	uint32_t mxcsr;

	__builtin_memcpy(v->stage, s->xstate, 512);
	__builtin_memcpy(&mxcsr, s->xstate + 24, 4);
	mxcsr &= 0xffff;
	__builtin_memcpy(v->stage + 24, &mxcsr, 4);
	uint64_t bv, mine, mask = xcr0_allowed() & 7;
	__builtin_memcpy(&bv, v->stage + 512, 8);
	__builtin_memcpy(&mine, s->xstate + 512, 8);
	bv = (bv & ~mask) | (mine & mask);
	__builtin_memcpy(v->stage + 512, &bv, 8);
	if (mask & 4)
		__builtin_memcpy(v->stage + 576, s->xstate + 576, 256);
}

/* The debugger has written to guest text: copies of user pages may be old. */
static void look_at_text(void)
{
	static _Atomic uint32_t seen;
	uint32_t now = kctl->debug.text_changed;

	if (atomic_exchange(&seen, now) == now)
		return;
	upatch_check(vh.vcpu);
	debug_tables();
}

/* vh.park has been acted upon. An NMI uses the word too, from another thread. */
static void park_looked(struct vcpu *v)
{
	__atomic_exchange_n(&vh.park, 0, __ATOMIC_SEQ_CST);
	if (atomic_load(&v->nmi) && !v->nmi_blocked)
		vh.park = 1;
}

uint32_t park_here(struct vcpu *v, const struct parked *at, uint32_t go)
{
	struct park *p = &kctl->park[v->id];
	uint32_t want, answered = 0, changed;

	if (!atomic_load(&p->want)) {
		park_looked(v);
		return go;
	}
	fpu_save(v); /* the stage is the truth now; the next entry to user code loads it again */
	publish(v, at->g, at->cpl, at->gs_base ? *at->gs_base : rdgsbase(), &p->state);
	p->go = go;
	while ((want = atomic_load(&p->want))) {
		if (want != answered) {
			atomic_store(&p->at_rest, want);
			answered = want;
			doorbell();
		}
		sys6(SYS_futex, (long)&p->want, FUTEX_WAIT, want, 0, 0, 0);
	}
	go = p->go;
	p->reason = PARK_ASKED;
	v->handoff.rested = true;
	debug_faulted = false; /* the debugger has seen another stop */
	atomic_store(&p->at_rest, 0);
	changed = atomic_exchange(&p->changed, 0);
	if (changed)
		take_over(v, at, &p->state);
	if (changed & PARK_CHANGED_XSTATE)
		take_over_vectors(v, &p->state);
	look_at_text();
	/* In this order: a new wish between the two is seen by one or the other. */
	park_looked(v);
	vh.pending = 1;
	park_notice(v);
	return go;
}

uint32_t park_self(struct vcpu *v, const struct parked *at, uint32_t reason, uint64_t addr)
{
	struct park *p = &kctl->park[v->id];
	uint32_t nobody = 0;

	p->addr = addr;
	p->reason = reason;
	atomic_compare_exchange_strong(&p->want, &nobody, PARK_SELF);
	return park_here(v, at, PARK_GO_ON);
}
