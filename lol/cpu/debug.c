/* SPDX-License-Identifier: BSD-2-Clause */
/* Breakpoints and single steps of the debugger, see debug.h. */
#include "cpu/debug.h"

#include <sys/mman.h>
#include <sys/syscall.h>

#include "cpu/insn.h"

K_ALLOW(mprotect);

#define CODE_HWBKPT 4 /* TRAP_HWBKPT: a host debug register, and not TF */
#define SLOT 32u
#define INT3 0xcc

/* Copies out of line: the instruction, and a jump to the one behind it. */
static uint8_t slots[KBREAK_MAX * SLOT] __attribute__((aligned(4096)));
static struct {
	uint32_t generation; /* of the breakpoint that the slot was made for */
	uint8_t len;         /* of the instruction, 0: it cannot be moved */
} slot[KBREAK_MAX];

static bool in_slots(gva_t rip)
{
	return rip - (gva_t)(uintptr_t)slots < sizeof(slots);
}

gva_t debug_guest_rip(gva_t rip)
{
	if (!in_slots(rip))
		return rip;
	unsigned n = (unsigned)((rip - (gva_t)(uintptr_t)slots) / SLOT), at = rip % SLOT;
	return kctl->debug.breaks[n].va + (at ? slot[n].len : 0u);
}

/* ---- breakpoints ---- */

static unsigned nbreaks(void)
{
	return MIN(kctl->debug.nbreaks, KBREAK_MAX);
}

static struct kbreak *kernel_break(gva_t va)
{
	for (unsigned i = 0; i < nbreaks(); i++)
		if (kctl->debug.breaks[i].va == va)
			return &kctl->debug.breaks[i];
	return NULL;
}

bool debug_apart;

bool debug_break_at(gva_t va)
{
	return kctl->debug.nbreaks && kernel_break(va);
}

void debug_tables(void)
{
	bool apart = false;

	for (unsigned i = 0; i < nbreaks(); i++) {
		const struct insn *site = kctl->debug.breaks[i].va ? site_around(kctl->debug.breaks[i].va) : NULL;
		apart |= site && (site->op == OP_IRET || site->op == OP_SYSRET);
	}
	debug_apart = apart;
	debug_watching = kctl->debug.watching_user & 0xf;
}

/* In user code a page can be mapped at several addresses, and an address is another page in every process. */
static struct kbreak *user_break(struct vcpu *v, gva_t va)
{
	struct kbreak *b = kernel_break(va);
	struct walk w;

	if (b || !nbreaks() || va >= K_USER_END || !pt_look(v->cr3, va, &w))
		return b;
	for (unsigned i = 0; i < nbreaks(); i++)
		if (kctl->debug.breaks[i].va && kctl->debug.breaks[i].gpa == w.gpa)
			return &kctl->debug.breaks[i];
	return NULL;
}

static uint8_t *text_byte(struct vcpu *v, const struct parked *p, gva_t va)
{
	struct walk w;

	if (!p->cpl)
		return k_ptr(va);
	return va < K_USER_END && pt_look(v->cr3, va, &w) ? ram_ptr(&ram, w.gpa, 1) : NULL;
}

bool debug_read_text(gva_t va, uint8_t *buf, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!k_read(va + i, &buf[i], 1))
			return false;
	for (unsigned i = 0; i < nbreaks(); i++) {
		const struct kbreak *b = &kctl->debug.breaks[i];
		if (b->va && b->va - va < n && buf[b->va - va] == INT3)
			buf[b->va - va] = b->original;
	}
	return true;
}

/* The bytes that b hides and those behind it; how many could be read. */
static unsigned original(struct vcpu *v, const struct parked *p, const struct kbreak *b, uint8_t code[15])
{
	unsigned n = 0;

	for (; n < 15; n++) {
		uint8_t *byte = text_byte(v, p, p->g->rip + n);
		if (!byte)
			break;
		code[n] = *byte;
		const struct kbreak *here = code[n] == INT3 ? kernel_break(p->g->rip + n) : NULL;
		if (here)
			code[n] = here->original;
	}
	if (n && code[0] == INT3)
		code[0] = b->original;
	return n;
}

/* ---- copies out of line, lifted breakpoints ---- */

static gva_t slot_for(const struct parked *p, const struct kbreak *b, const uint8_t *code, unsigned n)
{
	static bool executable;
	unsigned i = (unsigned)(b - kctl->debug.breaks);
	uint8_t *s = slots + i * SLOT;

	if (!executable) {
		if (sys3(SYS_mprotect, slots, sizeof(slots), PROT_READ | PROT_WRITE | PROT_EXEC))
			return 0;
		executable = true;
	}
	if (slot[i].generation != b->generation) {
		if (!p->signal)
			vector_registers_save();
		unsigned len = plain_length(code, n);
		if (!p->signal)
			vector_registers_restore();
		slot[i].len = 0;
		if (len) {
			int32_t back = (int32_t)((int64_t)(b->va + len) - (int64_t)(uintptr_t)(s + len + 5));
			for (unsigned k = 0; k < len; k++)
				s[k] = code[k];
			s[len] = 0xe9;
			__builtin_memcpy(s + len + 1, &back, 4);
			slot[i].len = (uint8_t)len;
		}
		slot[i].generation = b->generation;
	}
	return slot[i].len ? (gva_t)(uintptr_t)s : 0;
}

static void lift(struct vcpu *v, const struct parked *p, const struct kbreak *b)
{
	uint8_t *byte = text_byte(v, p, p->g->rip);

	if (!byte || *byte != INT3)
		return;
	*byte = b->original;
	v->step.lifted = (uint16_t)(b - kctl->debug.breaks + 1);
	v->step.lifted_byte = byte;
}

/* What a step has put aside comes back. */
static void end_step(struct vcpu *v, struct gregs *g)
{
	struct step *s = &v->step;

	if (s->lifted) {
		const struct kbreak *b = &kctl->debug.breaks[s->lifted - 1];
		if (b->va && *s->lifted_byte == b->original)
			*s->lifted_byte = INT3;
	}
	if (s->tf)
		g->rflags = (g->rflags & ~(uint64_t)FL_TF) | s->guest_tf;
	if (s->held)
		vh.pending = 1;
	*s = (struct step){0};
}

/* ---- stopping and going on ---- */

/* Prepare to go on at p. True: a step was wanted, and is over already. */
static bool set_off(struct vcpu *v, struct parked *p, bool step)
{
	struct gregs *g = p->g;
	struct step *s = &v->step;
	const struct insn *site = p->cpl ? NULL : site_around(g->rip);
	uint8_t code[15];

	if (site && g->rip != site->va) {
		g->rip = g->rip < site->va ? site->va : site->start + site->region;
		if (step)
			return true;
		site = site_around(g->rip);
	}
	struct kbreak *b = p->cpl ? user_break(v, g->rip) : kernel_break(site ? site->start : g->rip);
	if (site) {
		gva_t trampoline = site_trampoline(site);
		if (!trampoline) {
			emulate(v, g, site);
			return step;
		}
		g->rip = trampoline;
		if (step) {
			s->on = s->site = true;
			vh.park = 1;
		}
		return false;
	}
	if (b) {
		unsigned n = original(v, p, b, code);
		if (n == 15 && debug_by_hand(v, p, code))
			return step;
		gva_t copy = p->cpl || !n ? 0 : slot_for(p, b, code, n);
		if (copy)
			g->rip = copy;
		else
			lift(v, p, b);
	}
	if (!step && !s->lifted)
		return false;
	s->on = step;
	if (p->cpl) {
		s->busy = true;
		return false;
	}
	s->tf = true;
	s->leaving = !p->signal;
	s->guest_tf = g->rflags & FL_TF;
	g->rflags |= FL_TF;
	s->held = vh.pending;
	vh.pending = 0;
	return false;
}

/* Does the breakpoint's condition hold? One that cannot be computed does: the debugger is to look. */
static bool holds(struct vcpu *v, const struct parked *p, const struct kbreak *b)
{
	uint32_t at = b->agent, n = b->agent_len;
	uint64_t value = 1;
	struct agent_regs r = {p->g, p->cpl,
			       p->cpl ? p->g->rflags : (p->g->rflags & ~(uint64_t)FL_IF) | (vh.vflags & FL_IF),
			       p->cpl ? 0 : rdgsbase()};

	if (n && at <= KAGENT_BYTES && n <= KAGENT_BYTES - at && !agent_run(v, &r, kctl->debug.agent + at, n, &value))
		value = 1;
	if (value)
		atomic_fetch_add_explicit(&kctl->debug.hits, 1, memory_order_relaxed);
	else
		atomic_fetch_add_explicit(&kctl->debug.misses, 1, memory_order_relaxed);
	return value;
}

/*
 * In a step over a source line: is the next instruction in the line's range, too, and no place to stop at? Then the debugger
 * is not asked, which would take ten times as long as the instruction itself in user code, and a hundred times in kernel code.
 */
static bool in_range(struct vcpu *v, const struct parked *p)
{
	const struct park *park = &kctl->park[v->id];
	gva_t rip = p->g->rip;

	if (rip < park->range[0] || rip >= park->range[1] || p->cpl != park->state.cpl)
		return false;
	const struct insn *site = p->cpl ? NULL : site_around(rip);
	const struct kbreak *b = p->cpl ? user_break(v, rip) : kernel_break(site ? site->start : rip);
	return !b || b->report != rip || !holds(v, p, b);
}

static uint32_t after_step(struct vcpu *v, struct parked *p)
{
	if (!in_range(v, p))
		return park_self(v, p, PARK_STEPPED, 0);
	return vh.park ? park_here(v, p, PARK_GO_STEP) : PARK_GO_STEP;
}

static void go_on(struct vcpu *v, struct parked *p, uint32_t go)
{
	while (set_off(v, p, go == PARK_GO_STEP))
		go = after_step(v, p);
}

static void stop(struct vcpu *v, struct parked *p, enum park_reason why, uint64_t addr)
{
	go_on(v, p, why == PARK_STEPPED ? after_step(v, p) : park_self(v, p, why, addr));
}

void debug_attention(struct vcpu *v, struct parked *p)
{
	bool watch = v->step.watch, stepped = v->step.on && v->step.site;
	uint32_t go = v->step.on ? PARK_GO_STEP : PARK_GO_ON; /* a step that a pause came into is still wanted */

	__atomic_exchange_n(&vh.park, 0, __ATOMIC_SEQ_CST); /* before the looks: others set it too */
	if (nmi_take(v, p->g, p->cpl))
		return;
	end_step(v, p->g);
	if (watch)
		stop(v, p, PARK_WATCH, 0);
	else if (stepped)
		stop(v, p, PARK_STEPPED, 0);
	else
		go_on(v, p, park_here(v, p, go));
}

/* From entry.S, site context, on the way back to the guest. */
void ivmm_attention(struct gregs *g);
void ivmm_attention(struct gregs *g)
{
	struct parked p = {.g = g};

	debug_attention(vh.vcpu, &p);
}

bool debug_trap(struct vcpu *v, struct parked *p, uint32_t trapno, int code)
{
	struct gregs *g = p->g;

	if (trapno == VEC_BP) {
		struct kbreak *b = kernel_break(g->rip - 1);
		if (!b)
			return false;
		g->rip = b->va;
		if (v->step.tf)
			end_step(v, g);
		if (holds(v, p, b)) {
			g->rip = b->report;
			stop(v, p, PARK_BREAK, b->report);
		} else {
			set_off(v, p, false);
		}
		return true;
	}
	if (trapno != VEC_DB)
		return false;
	bool own = !rip_in_guest(g->rip) && !in_slots(g->rip); /* in the IVMM */
	if (code == CODE_HWBKPT) {
		if (own) {
			v->step.watch = true;
			vh.park = 1;
			return true;
		}
		g->rip = debug_guest_rip(g->rip);
		end_step(v, g);
		stop(v, p, PARK_WATCH, 0);
		return true;
	}
	if (!v->step.tf)
		return false;
	if (own)
		return true;
	if (v->step.leaving) { /* out of the IVMM: this is the instruction to step */
		v->step.leaving = false;
		return true;
	}
	bool on = v->step.on;
	g->rip = debug_guest_rip(g->rip);
	end_step(v, g);
	if (on)
		stop(v, p, PARK_STEPPED, 0);
	return true;
}

bool debug_fault_begin(struct vcpu *v, struct gregs *g)
{
	if (!v->step.tf)
		return false;
	g->rflags = (g->rflags & ~(uint64_t)FL_TF) | v->step.guest_tf;
	return true;
}

void debug_fault_end(struct vcpu *v, struct parked *p, gva_t rip)
{
	bool on = v->step.on;

	if (p->g->rip == rip) { /* served: the same instruction again */
		p->g->rflags |= FL_TF;
		return;
	}
	v->step.guest_tf = p->g->rflags & FL_TF;
	end_step(v, p->g);
	if (on)
		stop(v, p, PARK_STEPPED, 0);
}

/* ---- user code ---- */

enum { USER_NONE, USER_STOP, USER_GO_OVER, USER_WATCH };

bool debug_faulted;
static struct { /* whose */
	unsigned cpu;
	gva_t rip;
	uint64_t cr3, fs_base; /* of the thread */
} faulted;

/* Back from the guest kernel? At the same instruction the step goes on; it ends in a signal's handler, or on another vCPU. */
static void after_fault(struct vcpu *v, struct parked *p)
{
	if (((faulted.cr3 ^ v->cr3) & PTE_ADDR) || faulted.fs_base != v->fs_base)
		return;
	debug_faulted = false;
	if (faulted.cpu == v->id && faulted.rip == p->g->rip)
		go_on(v, p, PARK_GO_STEP);
	else
		stop(v, p, PARK_STEPPED, 0);
}

void debug_user_watch(struct vcpu *v, gva_t addr)
{
	v->step.user_break = USER_WATCH;
	v->step.watch_addr = addr;
	v->step.busy = true;
}

void debug_user_stop(struct vcpu *v, struct parked *p)
{
	struct step *s = &v->step;

	if (debug_faulted)
		after_fault(v, p);
	if (s->user_break == USER_GO_OVER) {
		end_step(v, p->g);
		set_off(v, p, false);
	}
	if (s->user_break || (s->on && s->done)) {
		enum park_reason why = s->user_break == USER_WATCH ? PARK_USER_WATCH
				       : s->user_break             ? PARK_BREAK
								   : PARK_STEPPED;
		gva_t addr = s->user_break == USER_WATCH ? s->watch_addr : p->g->rip;
		end_step(v, p->g);
		stop(v, p, why, addr);
	} else if (vh.park) {
		debug_attention(v, p);
	}
}

bool debug_user_break(struct vcpu *v, struct gregs *g)
{
	struct kbreak *b = nbreaks() ? user_break(v, g->rip - 1) : NULL;
	struct parked p = {.g = g, .cpl = 3};

	if (!b)
		return false;
	end_step(v, g);
	g->rip--;
	v->step.user_break = g->rip == b->va && holds(v, &p, b) ? USER_STOP : USER_GO_OVER;
	v->step.busy = true;
	return true;
}

void debug_user_event(struct vcpu *v, bool stepped, bool left, gva_t rip)
{
	struct step *s = &v->step;

	if (!s->on && !s->lifted)
		return;
	if (stepped && s->on && !left) {
		s->done = true;
	} else if (stepped || left) {
		bool on = s->on;
		end_step(v, NULL);
		if (left && on && rip && v->last_pf) {
			faulted.cpu = v->id;
			faulted.rip = rip;
			faulted.cr3 = v->cr3;
			faulted.fs_base = v->fs_base;
			debug_faulted = true;
		} else if (left && on) { /* the step has led into the guest kernel */
			s->on = s->site = true;
			vh.park = 1;
		}
	}
}
