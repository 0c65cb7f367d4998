/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Start and end of further vCPUs (SDM vol. 3, 9.4).  Runs in K, any context.
 *
 * The thread of each vCPU is made at the start of K, as the sandbox knows no clone.  All but the first wait for INIT and
 * SIPI; a vCPU that halts with interrupts off waits for them again, which is how Linux takes a CPU offline.
 *
 * Not as on hardware: the SIPI's vector, a real-mode address, is ignored, the vCPU starts in long mode at the kernel's
 * common_startup_64; INIT to a vCPU that runs takes effect when it halts with interrupts off.
 */
#include <linux/futex.h>
#include <sys/syscall.h>

#include "cpu/debug.h"

K_ALLOW(futex);

static struct klock start_lock;
_Atomic uint32_t vcpus_active = 1;

void vcpu_reset(struct vcpu *v)
{
	v->cr0 = 0x80050033; /* PG AM WP NE ET MP PE */
	v->cr2 = 0;
	v->cr3 = v->id ? kctl->boot.init_top_pgt : kctl->boot.early_top_pgt;
	v->cr4 = 0x20 | 0x200 | 0x400; /* PAE OSFXSR OSXMMEXCPT */
	v->efer = 0xd01;               /* NXE LMA LME SCE */
	v->xcr0 = 1;
	v->pat = 0x0007040600070406ull;
	v->misc_enable = 1;
	v->apic_base = 0xfee00c00 | (v->id == 0 ? 0x100 : 0);
	v->gdt_base = v->idt_base = v->tss_base = 0;
	v->gdt_limit = v->idt_limit = v->tr = v->ldtr = 0;
	for (int i = 0; i < 6; i++)
		v->sel[i] = SEL_KERNEL_DS;
	v->user_cs = SEL_USER_CS;
	for (int i = 0; i < 4; i++)
		v->dr[i] = 0;
	v->dr[6] = 0xffff0ff0;
	v->dr[7] = 0x400;
	v->fpu_in = NULL;
	__builtin_memset(v->stage, 0, sizeof(v->stage));
	*(uint16_t *)v->stage = 0x37f;
	*(uint32_t *)(v->stage + 24) = 0x1f80;
	v->watch = (struct watch){.on = false};
	v->watch_step = false;
	v->last_pf = 0;
	v->nmi_blocked = false;
	atomic_store(&v->nmi, false);
	utlb_flush(v);
	lapic_init(v);
}

/* Registers of a vCPU that begins. */
void vcpu_start_regs(struct vcpu *v, struct gregs *g)
{
	const struct kboot *b = &kctl->boot;

	*g = (struct gregs){.rip = b->entry, .rflags = 2};
	vh.vflags = 2;
	wrgsbase(0);
	if (v->id)
		return;
	g->r[RSI] = g->r[R15] = b->boot_params; /* 6.1 and later versions */
}

static bool all_dead(void)
{
	for (unsigned i = 0; i < kctl->ncpus; i++)
		if (!vcpus[i]->dead)
			return false;
	return true;
}

/* Wait for INIT and SIPI. g: registers for whoever wants this vCPU at rest, NULL: it has none yet. */
static void wait_start(struct vcpu *v, struct gregs *g)
{
	k_lock(&start_lock);
	v->dead = !v->sipi;
	if (all_dead())
		k_stop(KSTOP_POWEROFF, "halted with interrupts off");
	k_unlock(&start_lock);
	for (;;) {
		uint32_t seen = atomic_load(&v->event);
		if (vh.park && g) {
			struct parked p = {.g = g};
			debug_attention(v, &p);
		}
		k_lock(&start_lock);
		bool go = v->sipi;
		if (go)
			v->init = v->sipi = false;
		k_unlock(&start_lock);
		if (go)
			break;
		sys6(SYS_futex, (long)&v->event, FUTEX_WAIT_PRIVATE, seen, 0, 0, 0);
	}
	atomic_fetch_add(&vcpus_active, 1);
	atomic_store(&kctl->park[v->id].started, 1);
	park_notice(v);
}

void vcpu_wait_start(struct vcpu *v)
{
	wait_start(v, NULL);
}

void vcpu_dead(struct vcpu *v, struct gregs *g)
{
	v->nmi_blocked = true;
	atomic_fetch_sub(&vcpus_active, 1);
	wait_start(
		v,
		g); /* still `started` for whoever wants the guest at rest: where it stopped is of interest after a panic */
	vcpu_reset(v);
	vcpu_start_regs(v, g);
}

void vcpu_init_ipi(struct vcpu *v)
{
	k_lock(&start_lock);
	v->init = true;
	k_unlock(&start_lock);
}

void vcpu_sipi(struct vcpu *v)
{
	k_lock(&start_lock);
	bool wakes = v->init && !v->sipi;
	if (wakes) {
		v->sipi = true;
		v->dead = false;
	}
	k_unlock(&start_lock);
	if (!wakes)
		return;
	atomic_fetch_add(&v->event, 1);
	sys6(SYS_futex, (long)&v->event, FUTEX_WAKE_PRIVATE, 1, 0, 0, 0);
}
