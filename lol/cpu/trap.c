/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Signals in K: what the host tells us about the guest kernel's code (and our own).
 * Runs in K, signal context, on the vCPU's alternate stack.
 */
#include <errno.h>
#include <signal.h>
#include <sys/syscall.h>
#include <ucontext.h>

#include "cpu/debug.h"
#include "cpu/insn.h"
#include "mmu/uproc.h"

/* By the C library and by the host itself, which so goes on with a wait that has a time-out after a stop (job control, tracer, freezer). */
K_ALLOW(rt_sigreturn);
K_ALLOW(restart_syscall);

extern char ivmm_sti_check[], ivmm_sti_pop[], ivmm_sti_ret[], ivmm_sti_slow[], ivmm_exit[], ivmm_exit_end[];
extern char __executable_start[], etext[];

bool rip_in_guest(uint64_t rip)
{
	return rip >= K_IMAGE_MIN && rip < K_LOW_END;
}

static const int reg_of[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
			       REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};

static void regs_in(struct gregs *g, const ucontext_t *uc)
{
	for (int i = 0; i < 16; i++)
		g->r[i] = (uint64_t)uc->uc_mcontext.gregs[reg_of[i]];
	g->rip = (uint64_t)uc->uc_mcontext.gregs[REG_RIP];
	g->rflags = (uint64_t)uc->uc_mcontext.gregs[REG_EFL];
}

static void regs_out(const struct gregs *g, ucontext_t *uc)
{
	for (int i = 0; i < 16; i++)
		uc->uc_mcontext.gregs[reg_of[i]] = (long long)g->r[i];
	uc->uc_mcontext.gregs[REG_RIP] = (long long)g->rip;
	uc->uc_mcontext.gregs[REG_EFL] = (long long)(g->rflags | FL_IF);
}

/* The guest's next instruction may be an interrupt handler's first. */
static void deliver_due(struct vcpu *v, struct gregs *g)
{
	if (!vh.pending || !virtual_if() || !rip_in_guest(g->rip))
		return;
	int vec = interrupt_take(v);
	if (vec >= 0)
		inject(v, g, 0, (unsigned)vec, false, 0);
}

/*
 * Kicks and the timer: note that something may be pending. In guest code it is
 * delivered at once; on the IVMM's way out the last steps are taken back or finished.
 */
static void async_handler(int sig, siginfo_t *si, void *ucv)
{
	ucontext_t *uc = ucv;
	struct vcpu *v = vh.vcpu;
	uint64_t rip = (uint64_t)uc->uc_mcontext.gregs[REG_RIP];
	struct gregs g;
	int saved = errno;

	if (v->step.tf) /* the step goes first */
		v->step.held = true;
	else
		vh.pending = 1;
	if (v->id != 0 && si->si_code == SI_USER) /* the monitor's kick went to whichever thread took it */
		vcpu_kick_devices();
	if (sig == SIGALRM && v->lapic.deadline && rdtsc() < v->lapic.deadline)
		lapic_deadline(v, v->lapic.deadline); /* the two clocks disagree by a little */
	park_notice(v);
	atomic_fetch_add(&v->event, 1);
	struct uproc *u = atomic_load(&v->in_user);
	if (u) {
		kick_user(u);
	} else if (vh.park && (rip_in_guest(rip) || debug_guest_rip(rip) != rip)) {
		struct parked p = {.g = &g, .signal = true};
		regs_in(&g, uc);
		g.rip = debug_guest_rip(rip);
		debug_attention(v, &p);
		deliver_due(v, &g);
		regs_out(&g, uc);
	} else if (rip_in_guest(rip)) {
		if (virtual_if()) {
			regs_in(&g, uc);
			deliver_due(v, &g);
			regs_out(&g, uc);
		}
	} else if (rip >= (uint64_t)ivmm_exit && rip < (uint64_t)ivmm_exit_end) {
		/* Everything that has been popped is still there: leave again from the start. */
		uc->uc_mcontext.gregs[REG_RIP] = (long long)(uintptr_t)ivmm_exit;
		uc->uc_mcontext.gregs[REG_RSP] = (long long)(vh.ivmm_sp - sizeof(struct gregs) - 8);
	} else if (rip >= (uint64_t)ivmm_sti_check && rip < (uint64_t)ivmm_sti_slow) {
		/* Finish ivmm_sti: back at the site, with the interrupt. */
		regs_in(&g, uc);
		uint64_t *sp = (uint64_t *)g.r[RSP];
		bool pushed = rip != (uint64_t)ivmm_sti_check && rip != (uint64_t)ivmm_sti_ret &&
			      rip != (uint64_t)ivmm_sti_pop - 2;
		if (pushed)
			g.r[RCX] = *sp++;
		g.rip = *sp++;
		g.r[RSP] = (uint64_t)sp;
		if (vh.park) {
			struct parked p = {.g = &g, .signal = true};
			debug_attention(v, &p);
		}
		deliver_due(v, &g);
		regs_out(&g, uc);
	}
	errno = saved;
}

static void inject_trap(struct vcpu *v, struct gregs *g, uint32_t trapno, uint32_t error)
{
	switch (trapno) {
	case VEC_DB:
		v->dr[6] = 0xffff0ff0 | (g->rflags & FL_TF ? 1u << 14 : 0);
		inject(v, g, 0, VEC_DB, false, 0);
		break;
	case VEC_GP:
	case 10:
	case 11:
	case 12:
		inject(v, g, 0, trapno, true, error);
		break;
	case VEC_AC:
		inject(v, g, 0, VEC_AC, true, 0);
		break;
	default:
		inject(v, g, 0, trapno, false, 0);
	}
}

bool decode_at(gva_t rip, struct insn *in)
{
	uint8_t bytes[15];

	for (unsigned i = 0; i < sizeof(bytes); i++)
		if (!debug_read_text(rip + i, &bytes[i], 1))
			bytes[i] = 0xcc;
	return decode(bytes, sizeof(bytes), rip, in);
}

bool emulate_at(struct vcpu *v, struct gregs *g)
{
	struct insn in;
	const struct insn *site = site_at(g->rip);

	if (!site) {
		if (!decode_at(g->rip, &in) || in.op >= OP_LOAD)
			return false;
		site = &in;
	}
	STAT(site_traps);
	if (kctl->verbose > 1)
		k_log("trapped: instruction %u at %lx", site->op, g->rip);
	emulate(v, g, site);
	return true;
}

static void guest_fault(struct vcpu *v, struct gregs *g, uint32_t trapno, uint32_t error, uint64_t cr2)
{
	gpa_t gpa = 0;

	if (trapno == VEC_PF) {
		switch (k_fill(v, cr2, error, &gpa)) {
		case KFILL_DONE:
		case KFILL_AGAIN:
			return;
		case KFILL_MMIO:
			if (mmio_trapped(v, g, gpa))
				return;
			break;
		case KFILL_FAULT:
			break;
		}
		struct walk w;
		bool there = k_is_kernel(cr2) && pt_look(k_root(v), cr2, &w);
		/* Linux takes a write fault where its table permits writing for a stale TLB, and tries again for ever. */
		bool never = there && error & PFEC_W && w.writable && ram_ro(&ram, w.gpa);
		inject_pf(v, g, 0, cr2, (error & (PFEC_W | PFEC_I)) | (there ? PFEC_P : 0) | (never ? PFEC_RSVD : 0));
		return;
	}
	if ((trapno == VEC_GP || trapno == VEC_UD) && emulate_at(v, g))
		return;
	inject_trap(v, g, trapno, error);
}

static void sync_handler(int sig, siginfo_t *si, void *ucv)
{
	ucontext_t *uc = ucv;
	struct vcpu *v = vh.vcpu;
	uint32_t trapno = (uint32_t)uc->uc_mcontext.gregs[REG_TRAPNO], error = (uint32_t)uc->uc_mcontext.gregs[REG_ERR];
	uint64_t cr2 = (uint64_t)uc->uc_mcontext.gregs[REG_CR2];
	struct gregs g;
	gpa_t gpa;

	if (sig == SIGSEGV)
		STAT(traps_segv);
	else
		STAT(traps_other);
	regs_in(&g, uc);
	if (sig == SIGSYS)
		k_stop(KSTOP_BUG,
		       "system call %d at %lx is not in K's sandbox: a bug of lol-k, or an attack by the guest kernel",
		       si->si_syscall, g.rip);
	struct parked p = {.g = &g, .signal = true};
	if (sig == SIGTRAP && debug_trap(v, &p, trapno, si->si_code)) {
		deliver_due(v, &g);
		regs_out(&g, uc);
		return;
	}
	gva_t host_rip = g.rip; /* of a copy out of line, maybe */
	g.rip = debug_guest_rip(g.rip);
	if (!rip_in_guest(g.rip)) {
		/* Our own code touches kernel memory for the guest: that may need a fill. */
		if (trapno == VEC_PF && (g.rip >= K_LOW_END) && k_fill(v, cr2, error, &gpa) == KFILL_DONE)
			return;
		if (g.rip < K_IMAGE_MIN) { /* the guest kernel called through a null pointer */
			guest_fault(v, &g, trapno, error, cr2);
			regs_out(&g, uc);
			return;
		}
		k_stop(KSTOP_BUG,
		       "signal %d (trap %u, error %x, address %lx) in lol-k at %lx; last guest registers: rsp %lx rdi %lx",
		       sig, trapno, error, cr2, g.rip, vh.save_rsp, g.r[RDI]);
	}
	gva_t at = g.rip;
	bool step = debug_fault_begin(v, &g);
	guest_fault(v, &g, trapno, error, cr2);
	if (g.rip == at)
		g.rip = host_rip;
	if (step)
		debug_fault_end(v, &p, host_rip);
	else if (vh.park && g.rip != host_rip)
		debug_attention(v, &p);
	deliver_due(v, &g);
	regs_out(&g, uc);
}

void trap_init(void);
void trap_init(void)
{
	static const int sync[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGSYS};
	struct sigaction sa = {.sa_sigaction = sync_handler, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};

	sigaddset(&sa.sa_mask, SIGUSR1);
	sigaddset(&sa.sa_mask, SIGALRM);
	for (unsigned i = 0; i < ARRAY_LEN(sync); i++)
		sigaction(sync[i], &sa, NULL);
	sa = (struct sigaction){.sa_sigaction = async_handler, .sa_flags = SA_SIGINFO | SA_ONSTACK};
	sigaddset(&sa.sa_mask, SIGUSR1);
	sigaddset(&sa.sa_mask, SIGALRM);
	sigaction(SIGUSR1, &sa, NULL);
	sigaction(SIGALRM, &sa, NULL);
	/* A U can die at any time, and K writes to its pipe before it hears of that. */
	signal(SIGPIPE, SIG_IGN);
}
