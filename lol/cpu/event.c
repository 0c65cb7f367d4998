/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Exceptions and interrupts into the guest kernel (SDM vol. 3, 6.14), and waiting for
 * them.  Runs in K, any context.
 */
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>

#include "cpu/debug.h"

K_ALLOW(futex);
K_ALLOW(getpid);
K_ALLOW(tgkill, SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)getpid())); /* kicks: inside K */

struct gate {
	uint16_t offset0, selector;
	uint8_t ist, type;
	uint16_t offset1;
	uint32_t offset2, reserved;
};

bool gate_usable(struct vcpu *v, unsigned vector)
{
	struct gate gate;

	return (vector + 1) * sizeof(gate) <= (size_t)v->idt_limit + 1 &&
	       k_read(v->idt_base + vector * sizeof(gate), &gate, sizeof(gate)) && (gate.type & 0xe0) == 0xe0;
}

static void triple_fault(unsigned vector, const struct gregs *g)
{
	k_stop(KSTOP_RESET, "triple fault: exception %u at %lx has no handler (cr2 %lx)", vector, g->rip, vh.vcpu->cr2);
}

void inject(struct vcpu *v, struct gregs *g, unsigned cpl, unsigned vector, bool has_error, uint32_t error)
{
	struct gate gate;
	uint64_t sp, frame[6];
	unsigned n = 0;

	if ((vector + 1) * sizeof(gate) > (size_t)v->idt_limit + 1 ||
	    !k_read(v->idt_base + vector * sizeof(gate), &gate, sizeof(gate)) || !(gate.type & 0x80))
		triple_fault(vector, g);
	if (gate.ist & 7) {
		if (!k_read(v->tss_base + 36 + 8 * ((gate.ist & 7u) - 1), &sp, 8))
			triple_fault(vector, g);
	} else if (cpl == 3) {
		if (!k_read(v->tss_base + 4, &sp, 8))
			triple_fault(vector, g);
	} else {
		sp = g->r[RSP];
	}
	sp &= ~15ull;
	if (has_error)
		frame[n++] = error;
	frame[n++] = g->rip;
	frame[n++] = cpl == 3 ? v->user_cs : SEL_KERNEL_CS;
	frame[n++] = cpl == 3 ? g->rflags : (g->rflags & ~(uint64_t)(FL_IF | FL_IOPL)) | (vh.vflags & FL_IF) | 2;
	frame[n++] = g->r[RSP];
	frame[n++] = cpl == 3 ? SEL_USER_DS : SEL_KERNEL_DS;
	sp -= n * 8;
	if (!k_write(sp, frame, n * 8))
		triple_fault(vector, g);
	g->r[RSP] = sp;
	g->rip = gate.offset0 | (uint64_t)gate.offset1 << 16 | (uint64_t)gate.offset2 << 32;
	g->rflags &= ~(uint64_t)(FL_TF | FL_NT | FL_RF);
	if (cpl == 3)
		g->rflags &= FL_ARITH;
	if (cpl == 3)
		vh.vflags = FL_IF | 2;
	if ((gate.type & 0xf) == 0xe)
		vh.vflags &= ~(uint64_t)FL_IF;
}

void inject_pf(struct vcpu *v, struct gregs *g, unsigned cpl, gva_t va, uint32_t error)
{
	v->cr2 = va;
	inject(v, g, cpl, VEC_PF, true, error);
}

void inject_gp(struct vcpu *v, struct gregs *g, unsigned cpl, uint32_t error)
{
	inject(v, g, cpl, VEC_GP, true, error);
}

/* Lines that the monitor raised become edges at the 8259 pair; only vCPU 0 is wired to it. */
static void collect_lines(struct vcpu *v)
{
	if (v->id != 0)
		return;
	io_poll_uart();
	if (!atomic_load_explicit(&kctl->irq_raised, memory_order_relaxed))
		return;
	uint32_t lines = atomic_exchange(&kctl->irq_raised, 0);
	while (lines) {
		unsigned line = (unsigned)__builtin_ctz(lines);
		lines &= lines - 1;
		pic_raise(line);
	}
}

static bool pic_wired(struct vcpu *v)
{
	return v->id == 0 && !(v->lapic.lvt[LVT_LINT0] & 0x10000);
}

bool interrupt_waiting(struct vcpu *v)
{
	collect_lines(v);
	lapic_timer_check(v);
	return lapic_highest(v) >= 0 || (pic_wired(v) && pic_highest() >= 0);
}

int interrupt_take(struct vcpu *v)
{
	/* A sender sets its bit first and then this word: no look at the bits may come before the word is cleared. */
	__atomic_exchange_n(&vh.pending, 0, __ATOMIC_SEQ_CST);
	if (!interrupt_waiting(v))
		return -1;
	vh.pending = 1; /* there may be more; the next look clears it */
	STAT(irqs);
	int vec = lapic_highest(v);
	if (vec >= 0) {
		lapic_accept(v, (unsigned)vec);
		return vec;
	}
	return pic_acknowledge();
}

/* From entry.S, site context: this vCPU is to rest, or an interrupt may be due and the virtual IF is set. */
void ivmm_deliver(struct gregs *g)
{
	struct vcpu *v = vh.vcpu;

	if (vh.park) {
		struct parked p = {.g = g};
		debug_attention(v, &p);
		return;
	}
	int vec = interrupt_take(v);

	if (vec >= 0)
		inject(v, g, 0, (unsigned)vec, false, 0);
}

/*
 * The interrupt, or whatever it is, has been noted. How v hears of it depends on what it does: asleep in hlt it is woken,
 * unless it is looking anyway;
 * while guest user code runs, the U is stopped and K's thread left alone; else there is a signal. Each state is published
 * before v looks at what is due for the last time.
 */
void vcpu_kick(struct vcpu *v)
{
	if (v == vh.vcpu) {
		vh.pending = 1;
		return;
	}
	__atomic_store_n(&v->hot->pending, 1, __ATOMIC_RELAXED);
	atomic_fetch_add(&v->event, 1);
	uint32_t halted = atomic_load(&v->halted);
	if (halted == HALT_POLLS)
		return;
	if (halted) {
		STAT(kicks_halted);
		sys6(SYS_futex, (long)&v->event, FUTEX_WAKE_PRIVATE, 1, 0, 0, 0);
		return;
	}
	struct uproc *u = atomic_load(&v->in_user);
	if (u) {
		kick_user(u);
	} else {
		STAT(kicks_kernel);
		sys3(SYS_tgkill, sys3(SYS_getpid, 0, 0, 0), v->tid, 10);
	}
}

void vcpu_kick_devices(void)
{
	vcpu_kick(vcpus[0]);
}

bool nmi_take(struct vcpu *v, struct gregs *g, unsigned cpl)
{
	if (v->nmi_blocked || v->step.on || v->step.busy || !atomic_exchange(&v->nmi, false))
		return false;
	v->nmi_blocked = true;
	vh.park = 1; /* what else it stands for waits for the next look */
	inject(v, g, cpl, VEC_NMI, false, 0);
	return true;
}
