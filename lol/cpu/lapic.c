/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The local APIC in x2APIC mode (SDM vol. 3, 11.12), reached through MSRs only, with
 * the TSC-deadline timer on a host timer.  Runs in K, any context.
 *
 * Not as on hardware: no logical destinations, no SMI by IPI, no error register; Linux uses
 * none of them in physical x2APIC mode.
 */
#include <sys/syscall.h>
#include <time.h>

#include "cpu/k.h"

K_ALLOW(sched_yield);
K_ALLOW(timer_settime);

#define LVT_MASKED 0x10000u
#define TIMER_DEADLINE (2u << 17)

void lapic_init(struct vcpu *v)
{
	struct lapic *a = &v->lapic;

	for (unsigned i = 0; i < ARRAY_LEN(a->lvt); i++)
		a->lvt[i] = LVT_MASKED;
	for (unsigned i = 0; i < ARRAY_LEN(a->isr); i++) {
		atomic_store(&a->irr[i], 0);
		a->isr[i] = 0;
	}
	a->tpr = a->esr = a->dcr = 0;
	a->deadline = 0;
	if (v->id == 0)
		a->lvt[LVT_LINT0] = 0x700; /* ExtINT, open: the 8259 pair works from the start */
	a->svr = 0xff;
}

static int highest(const uint32_t *bits)
{
	for (int i = 7; i >= 0; i--)
		if (bits[i])
			return i * 32 + 31 - __builtin_clz(bits[i]);
	return -1;
}

int lapic_highest(struct vcpu *v)
{
	struct lapic *a = &v->lapic;
	uint32_t irr[8];

	for (int i = 0; i < 8; i++)
		irr[i] = atomic_load_explicit(&a->irr[i], memory_order_relaxed);
	int vec = highest(irr), in_service = highest(a->isr);
	if (vec < 16 || vec >> 4 <= (int)(a->tpr >> 4) || (in_service >= 0 && vec >> 4 <= in_service >> 4))
		return -1;
	return vec;
}

void lapic_accept(struct vcpu *v, unsigned vector)
{
	atomic_fetch_and(&v->lapic.irr[vector / 32], ~(1u << vector % 32));
	v->lapic.isr[vector / 32] |= 1u << vector % 32;
}

/* Who sets the bit also kicks; while it is set another need not. */
static void raise(struct vcpu *v, unsigned vector)
{
	if (!(atomic_fetch_or(&v->lapic.irr[vector / 32], 1u << vector % 32) & 1u << vector % 32))
		vcpu_kick(v);
}

static void raise_nmi(struct vcpu *v)
{
	atomic_store(&v->nmi, true);
	__atomic_store_n(&v->hot->park, 1, __ATOMIC_SEQ_CST);
	vcpu_kick(v);
}

static void eoi(struct lapic *a)
{
	int vec = highest(a->isr);
	if (vec >= 0)
		a->isr[vec / 32] &= ~(1u << vec % 32);
}

static void arm(struct vcpu *v, uint64_t ns)
{
	struct itimerspec its = {.it_value = {(time_t)(ns / 1000000000), (long)(ns % 1000000000)}};

	STAT(timer_arms);
	sys6(SYS_timer_settime, v->timer, 0, (long)&its, 0, 0, 0);
}

void lapic_timer_check(struct vcpu *v)
{
	struct lapic *a = &v->lapic;

	if (!a->deadline || rdtsc() < a->deadline)
		return;
	a->deadline = 0;
	if (!(a->lvt[LVT_TIMER] & LVT_MASKED))
		atomic_fetch_or(&a->irr[(a->lvt[LVT_TIMER] & 0xff) / 32], 1u << (a->lvt[LVT_TIMER] & 31));
}

void lapic_deadline(struct vcpu *v, uint64_t tsc)
{
	uint64_t now = rdtsc();

	v->lapic.deadline = tsc;
	if (!tsc)
		return;
	if (tsc <= now) {
		vh.pending = 1;
		return;
	}
	uint64_t d = tsc - now;
	if (d > tsc_khz * 3600000) /* an hour: the guest arms anew when it is not done then */
		d = tsc_khz * 3600000;
	arm(v, (uint64_t)((unsigned __int128)d * 1000000 / tsc_khz) + 1);
}

enum { IPI_FIXED, IPI_LOWEST, IPI_SMI, IPI_NMI = 4, IPI_INIT, IPI_SIPI };
#define ICR_DEASSERT(icr) (((icr)&0xc000) == 0x8000) /* level triggered and low: of INIT, nothing happens */

static void send_to(struct vcpu *v, unsigned mode, uint64_t icr)
{
	switch (mode) {
	case IPI_FIXED:
	case IPI_LOWEST:
		raise(v, icr & 0xff);
		break;
	case IPI_NMI:
		raise_nmi(v);
		break;
	case IPI_INIT:
		if (!ICR_DEASSERT(icr))
			vcpu_init_ipi(v);
		break;
	case IPI_SIPI:
		vcpu_sipi(v);
		break;
	}
}

/* ICR (11.12.9): one 64-bit write, destination in the upper half. */
static void send_ipi(struct vcpu *v, uint64_t icr)
{
	unsigned mode = icr >> 8 & 7, shorthand = icr >> 18 & 3;
	uint32_t dest = (uint32_t)(icr >> 32);

	STAT(ipis);
	for (unsigned i = 0; i < kctl->ncpus; i++) {
		bool self = i == v->id;
		if (shorthand == 0 ? dest == i || dest == ~0u : shorthand == 1 ? self : shorthand == 2 || !self)
			send_to(vcpus[i], mode, icr);
	}
	/* Most senders spin until the others have answered: let those run that need this CPU for it. */
	if (kctl->crowded)
		sys3(SYS_sched_yield, 0, 0, 0);
}

static const uint8_t lvt_of[] = {LVT_TIMER, LVT_THERMAL, LVT_PERF, LVT_LINT0, LVT_LINT1, LVT_ERROR};

bool lapic_msr_read(struct vcpu *v, uint32_t msr, uint64_t *val)
{
	struct lapic *a = &v->lapic;

	switch (msr) {
	case 0x802:
		*val = v->id;
		return true;
	case 0x803:
		*val = 0x60015; /* version 0x15, 7 LVT entries */
		return true;
	case 0x808:
		*val = a->tpr;
		return true;
	case 0x80a:
		*val = 0;
		return true;
	case 0x80d:
		*val = (uint64_t)(v->id >> 4) << 16 | 1u << (v->id & 15);
		return true;
	case 0x80f:
		*val = a->svr;
		return true;
	case 0x810 ... 0x817:
		*val = a->isr[msr - 0x810];
		return true;
	case 0x820 ... 0x827:
		*val = atomic_load(&a->irr[msr - 0x820]);
		return true;
	case 0x832 ... 0x837:
		*val = a->lvt[lvt_of[msr - 0x832]];
		return true;
	case 0x82f:
		*val = a->lvt[LVT_CMCI];
		return true;
	case 0x83e:
		*val = a->dcr;
		return true;
	case 0x6e0:
		*val = a->deadline;
		return true;
	}
	*val = 0;
	return msr >= 0x800 && msr < 0x900;
}

bool lapic_msr_write(struct vcpu *v, uint32_t msr, uint64_t val)
{
	struct lapic *a = &v->lapic;

	switch (msr) {
	case 0x808:
		a->tpr = (uint32_t)val & 0xff;
		vh.pending = 1;
		return true;
	case 0x80b:
		eoi(a);
		vh.pending = 1;
		return true;
	case 0x80f:
		a->svr = (uint32_t)val;
		return true;
	case 0x82f:
		a->lvt[LVT_CMCI] = (uint32_t)val;
		return true;
	case 0x830:
		send_ipi(v, val);
		return true;
	case 0x832 ... 0x837:
		a->lvt[lvt_of[msr - 0x832]] = (uint32_t)val;
		return true;
	case 0x83e:
		a->dcr = (uint32_t)val;
		return true;
	case 0x83f:
		raise(v, val & 0xff);
		return true;
	case 0x6e0:
		lapic_deadline(v, val);
		return true;
	}
	return msr >= 0x800 && msr < 0x900;
}
