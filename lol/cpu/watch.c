/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Breakpoints in the debug registers (SDM vol. 3, 18.2), for guest user code.  Runs in K, site context, on the way to
 * user code: the guest kernel's vector state is not live there, so Zydis may be called.
 *
 * The host's own debug registers need ptrace or perf events, which a host may refuse. So the pages of breakpoints are
 * kept out of the U. An instruction that faults there is run as a single step with the page in place: it is decoded
 * first, and what it is going to access is compared with the breakpoints. Such a step costs some 20 us.
 *
 * Not as in hardware: accesses by the guest kernel on the program's behalf and by vector gathers do not hit; in 32-bit
 * code only breakpoints on execution do; a hit of an instruction that ends in another exception is dropped.
 */
#include "cpu/debug.h"
#include "cpu/insn.h"
#include "mmu/uproc.h"

enum { ON_EXECUTION, ON_WRITE, ON_IO, ON_ACCESS };

/* 0 to 3 are the guest's own, 4 to 7 the debugger's: those have no register. */
#define POINTS 8u
#define GUESTS 0xfu

bool debug_watching; /* the debugger has one in user code */

static bool enabled(const struct vcpu *v, unsigned n)
{
	return n < 4 ? v->dr[7] >> 2 * n & 3 : debug_watching && kctl->debug.watching_user >> (n - 4) & 1;
}

static gva_t address_of(const struct vcpu *v, unsigned n)
{
	return n < 4 ? v->dr[n] : kctl->debug.watch[n - 4].va;
}

static unsigned kind_of(const struct vcpu *v, unsigned n)
{
	return n < 4 ? v->dr[7] >> (16 + 4 * n) & 3 : kctl->debug.watch[n - 4].kind;
}

static uint64_t length_of(const struct vcpu *v, unsigned n)
{
	static const uint8_t length[4] = {1, 2, 8, 4};
	return n < 4 ? length[v->dr[7] >> (18 + 4 * n) & 3] : kctl->debug.watch[n - 4].size;
}

bool watch_active(const struct vcpu *v)
{
	for (unsigned n = 0; n < POINTS; n++)
		if (enabled(v, n) && address_of(v, n) < K_USER_END)
			return true;
	return false;
}

bool watch_page(const struct vcpu *v, gva_t va)
{
	for (unsigned n = 0; n < POINTS; n++)
		if (enabled(v, n) && (address_of(v, n) & PAGE_MASK) == (va & PAGE_MASK))
			return true;
	return false;
}

void watch_hide(struct vcpu *v, struct uproc *u)
{
	for (unsigned n = 0; n < POINTS; n++)
		if (enabled(v, n) && address_of(v, n) < K_USER_END)
			umap_forget_page(v, u, address_of(v, n));
}

void watch_fault(struct vcpu *v, struct gregs *g, gva_t va)
{
	if (!watch_page(v, va))
		return;
	v->watch_step = true;
	/* The host has set RF, as for any fault; here the instruction is still to be looked at, unless the guest's RF forbids. */
	if (v->watch.on || (v->watch.rf && g->rip == v->watch.rip))
		return;
	g->rflags &= ~(uint64_t)FL_RF;
}

void watch_free(struct vcpu *v, const struct gregs *g)
{
	v->watch = (struct watch){.rf = g->rflags & FL_RF, .rip = g->rip};
}

static uint32_t execution_hits(const struct vcpu *v, gva_t rip)
{
	uint32_t hits = 0;

	for (unsigned n = 0; n < POINTS; n++)
		if (enabled(v, n) && kind_of(v, n) == ON_EXECUTION && address_of(v, n) == rip)
			hits |= 1u << n;
	return hits;
}

static uint32_t data_hits(const struct vcpu *v, const struct mem_access *a)
{
	uint32_t hits = 0;

	for (unsigned n = 0; n < POINTS; n++) {
		uint64_t length = length_of(v, n), start = address_of(v, n) & ~(length - 1);
		unsigned kind = kind_of(v, n);
		if (enabled(v, n) && (kind == ON_ACCESS || (kind == ON_WRITE && a->write)) && a->va < start + length &&
		    start < a->va + a->size)
			hits |= 1u << n;
	}
	return hits;
}

bool watch_begin(struct vcpu *v, struct gregs *g, uint64_t gs_base)
{
	struct mem_access a[ACCESSES_MAX];
	uint8_t bytes[15];
	gva_t bad;
	uint32_t error, hits = 0;
	size_t n = 0;

	v->watch = (struct watch){.on = true, .tf = g->rflags & FL_TF};
	if (!(g->rflags & FL_RF))
		hits = execution_hits(v, g->rip);
	if (hits & GUESTS) {
		v->watch.on = false;
		v->dr[6] = 0xffff0ff0 | (hits & GUESTS);
		return true;
	}
	if (hits) {
		v->watch.on = false;
		debug_user_watch(v, g->rip);
		return false;
	}
	while (n < sizeof(bytes) && user_read(v, g->rip + n, &bytes[n], 1, &bad, &error))
		n++;
	if (!n || v->user_cs != SEL_USER_CS)
		return false;
	unsigned count = decode_accesses(bytes, n, g, v->fs_base, gs_base, a, &v->watch.kind);
	for (unsigned i = 0; i < count; i++)
		v->watch.hits |= data_hits(v, &a[i]);
	return false;
}

void watch_end(struct vcpu *v, struct gregs *g, bool stepped)
{
	struct watch *w = &v->watch;
	uint8_t *flags;
	uint32_t error;

	if (!w->on)
		return;
	if (stepped)
		v->watch_step = watch_page(v, g->rip);
	if (!(stepped && w->kind == STEP_LOADS_FLAGS))
		g->rflags = (g->rflags & ~(uint64_t)FL_TF) | w->tf;
	if (stepped && w->kind == STEP_PUSHES_FLAGS && !w->tf && (flags = user_ptr(v, g->r[RSP] + 1, true, &error)))
		*flags &= (uint8_t) ~(FL_TF >> 8);
}

bool watch_hit(struct vcpu *v)
{
	struct watch *w = &v->watch;

	if (w->hits & ~GUESTS)
		debug_user_watch(v, kctl->debug.watch[__builtin_ctz(w->hits & ~GUESTS) - 4].va);
	if (!(w->hits & GUESTS) && !w->tf && w->kind != STEP_TRAPS)
		return false;
	v->dr[6] = 0xffff0ff0 | (w->hits & GUESTS) | (w->tf ? 1u << 14 : 0);
	return true;
}
