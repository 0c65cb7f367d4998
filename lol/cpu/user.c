/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The crossing between guest kernel and guest user code.  Runs in K, site context.
 *
 * enter_user() gives a U its registers and its turn and stays until the guest kernel
 * is needed: a system call, an exception, an interrupt.  Page faults that only the
 * fill was missing for never reach the guest.
 *
 * The vector state of a user thread stays in the registers of its U's host thread.
 * The guest kernel's xsave and xrstor (emulate.c) move it: v->fpu_in says which U has
 * it, otherwise it is in v->stage and goes into the next U that runs.
 */
#include <linux/audit.h>

#include "cpu/debug.h"
#include "cpu/insn.h"
#include "mmu/upatch.h"

#define SIG_TRAP 5
#define SIG_SYS 31
#define STUB_SIZE 0x1000
#define VSYSCALL_PAGE 0xffffffffff600000ull

void kick_user(struct uproc *u)
{
	STAT(u_kicks);
	atomic_store(&u->s->kick, 1);
	user_signal(u);
}

static uint8_t *xarea(struct uproc *u)
{
	return (uint8_t *)u->s + USHARE_XAREA;
}

uint32_t fpu_save_cmd(struct vcpu *v, struct uproc *u)
{
	if (v->fpu_in != u || u->fpu_saved)
		return 0;
	STAT(fpu_save);
	u->s->xmask = xcr0_allowed();
	return UCMD_XSAVE | (xstate_inuse_known() ? UCMD_XINUSE : 0);
}

const uint8_t *fpu_image(struct vcpu *v)
{
	struct uproc *u = v->fpu_in;

	if (!u)
		return v->stage;
	if (!u->fpu_saved) {
		u->fpu_saved = user_run(v, u, fpu_save_cmd(v, u));
		if (!u->fpu_saved) { /* dead */
			v->fpu_in = NULL;
			return v->stage;
		}
	}
	return xarea(u);
}

void fpu_save(struct vcpu *v)
{
	const uint8_t *image = fpu_image(v);

	if (image != v->stage)
		xstate_copy(v->stage, image, xstate_bv(image));
	v->fpu_in = NULL;
}

/*
 * Put the staged vector state where U's stub loads it, unless its registers have it already: the guest kernel mostly gives
 * back to a thread what it has saved of it. Returns the command for the stub. Hostile or broken headers were refused when
 * the stage was written.
 */
static uint32_t fpu_stage_to(struct vcpu *v, struct uproc *u)
{
	v->fpu_in = u;
	if (u->fpu_saved && xstate_same(v->stage, xarea(u)))
		return 0;
	STAT(fpu_load);
	xstate_copy(xarea(u), v->stage, xstate_bv(v->stage));
	u->s->xmask = xcr0_allowed();
	return UCMD_XRSTOR;
}

static const uint8_t ur_index[16] = {UR_RAX, UR_RCX, UR_RDX, UR_RBX, UR_RSP, UR_RBP, UR_RSI, UR_RDI,
				     UR_R8,  UR_R9,  UR_R10, UR_R11, UR_R12, UR_R13, UR_R14, UR_R15};

/* The other way round. */
static const uint8_t ur_number[16] = {8, 9, 10, 11, 12, 13, 14, 15, RDI, RSI, RBP, RBX, RDX, RAX, RCX, RSP};

static uint64_t user_flags(uint64_t flags)
{
	return (flags & ~(uint64_t)FL_IOPL) | FL_IF | 2;
}

/* Words that have their value already are left alone: their cache line need not travel. */
static inline void put(uint64_t *to, uint64_t val)
{
	if (*to != val)
		*to = val;
}

/* The registers of the U's last system call, but those that change: its stub has kept them. */
static bool has_own(const struct uproc *u, const struct gregs *g)
{
	uint64_t other = 0;

#pragma GCC unroll 16
	for (int i = 0; i < 16; i++)
		if (UR_KEPT >> ur_index[i] & 1)
			other |= g->r[i] ^ u->own[ur_index[i]];
	return !other;
}

/* Returns the command for the stub. */
static uint32_t put_regs(struct uproc *u, const struct gregs *g, uint64_t host_rip, bool fast)
{
	struct ushare *s = u->s;

	if (fast) { /* to the slice with the turn: U looks at that line all the time */
		u->first.rax = g->r[RAX];
		u->first.rcx = g->rip;
		u->first.rip = host_rip;
		u->first.efl = (uint32_t)user_flags(g->rflags);
		if (has_own(u, g)) {
			STAT(u_short_returns);
			return UCMD_FAST | UCMD_OWN;
		}
	} else {
		put(&s->regs[UR_RAX], g->r[RAX]);
		put(&s->regs[UR_RCX], g->r[RCX]);
		put(&s->regs[UR_R11], g->r[R11]);
		put(&s->regs[UR_RIP], host_rip);
		put(&s->regs[UR_EFL], user_flags(g->rflags));
	}
#pragma GCC unroll 16
	for (int i = 0; i < 16; i++)
		if (UR_KEPT >> ur_index[i] & 1)
			put(&s->regs[ur_index[i]], g->r[i]);
	return fast ? UCMD_FAST : 0;
}

/* Of a system call without a signal. */
static void get_call_regs(struct uproc *u, struct gregs *g)
{
	struct ushare *s = u->s;
	uint32_t changed = *(volatile uint32_t *)&s->changed & UR_KEPT;

#pragma GCC unroll 16
	for (int i = 0; i < 16; i++)
		if (UR_KEPT >> ur_index[i] & 1)
			g->r[i] = u->own[ur_index[i]] = s->regs[ur_index[i]];
	for (unsigned n = 0; changed && n < US_WORDS; n++, changed &= changed - 1) {
		unsigned i = (unsigned)__builtin_ctz(changed);
		g->r[ur_number[i]] = u->own[i] = s->word[n];
	}
	g->r[RAX] = s->rax; /* the call gives rcx and r11 their values */
	g->rip = s->number;
	g->rflags = user_flags(s->efl);
}

static void get_regs(struct uproc *u, struct gregs *g)
{
	struct ushare *s = u->s;

	if (s->why == WHY_SYSCALL) {
		get_call_regs(u, g);
		return;
	}
#pragma GCC unroll 16
	for (int i = 0; i < 16; i++)
		g->r[i] = s->regs[ur_index[i]];
	g->rip = upatch_to_guest(u, s->regs[UR_RIP]);
	g->rflags = user_flags(s->regs[UR_EFL]);
}

/* The GS bases of user and kernel; swapped: the kernel's is to be the active one. */
struct gs_bases {
	uint64_t user, kernel, active; /* active: what the CPU has */
	bool swapped;
};

static uint64_t canonical(uint64_t base, uint64_t old)
{
	return base < 1ull << 47 || base >= ~0ull << 47 ? base : old;
}

/* Code and data segment registers, in the slice's order and in that of v->sel[]. */
static const uint8_t sel_index[4] = {3, 0, 4, 5};

/* The commands that bring the U's segment registers and bases to what the guest's user code is to have: few change them. */
static uint32_t put_segments(struct vcpu *v, struct uproc *u, uint64_t gs_base)
{
	uint32_t cmd = u->fs_base != v->fs_base || u->gs_base != gs_base ? UCMD_BASES : 0;

	put(&u->s->regs[UR_CSGSFS], v->user_cs);
	for (int i = 0; i < 4; i++) {
		uint16_t sel = v->sel[sel_index[i]];
		if (sel != u->seg[i])
			cmd |= UCMD_SEGS | UCMD_BASES; /* loading a selector changes its base */
		if (u->s->seg[i] != sel)
			u->s->seg[i] = sel;
		u->seg[i] = sel;
	}
	put(&u->s->fsbase, v->fs_base);
	put(&u->s->gsbase, gs_base);
	return cmd;
}

static void get_segments(struct vcpu *v, struct uproc *u)
{
	v->user_cs = u->s->why != WHY_SYSCALL && (uint16_t)u->s->regs[UR_CSGSFS] == SEL_USER32_CS ? SEL_USER32_CS
												  : SEL_USER_CS;
	for (int i = 0; i < 4; i++) {
		uint16_t sel = u->s->seg[i];
		u->seg[i] = sel;
		if (sel != v->sel[sel_index[i]])
			v->sel[sel_index[i]] = segment_loadable(v, sel, 3) ? sel : 0;
	}
	u->fs_base = u->s->fsbase;
	u->gs_base = u->s->gsbase;
	v->fs_base = canonical(u->fs_base, v->fs_base);
}

/* The site of the swapgs that the guest's entry for system calls begins with; NULL: it begins otherwise. */
static const struct insn *syscall_entry(struct vcpu *v)
{
	if (v->entry_for != v->lstar) {
		const struct insn *in = site_at(v->lstar);
		v->entry_for = v->lstar;
		v->entry_swapgs = in && in->op == OP_SWAPGS ? in : NULL;
	}
	return v->entry_swapgs;
}
/*
 * SYSCALL (SDM vol. 2): rip to rcx, flags to r11, no stack. Writing a segment base takes 25 ns, so the swapgs that the
 * guest's entry begins with is done here.
 */
static void deliver_syscall(struct vcpu *v, struct gregs *g, struct gs_bases *gs)
{
	STAT(u_syscalls);
	g->r[RCX] = g->rip;
	g->r[R11] = g->rflags;
	g->rip = v->lstar;
	const struct insn *first = syscall_entry(v);
	if (first && !v->step.busy && !debug_break_at(v->lstar)) {
		g->rip = next_rip(first);
		gs->swapped = true;
	}
	vh.vflags = ((g->rflags & FL_IF) & ~v->fmask) | 2;
	g->rflags &= ~v->fmask & FL_ARITH;
}

/* int $0x80, or syscall and sysenter in 32-bit code: all of them are system calls of the host's second kind. */
static void deliver_compat(struct vcpu *v, struct gregs *g)
{
	uint8_t code[2] = {0};
	gva_t bad;
	uint32_t error;

	if (user_read(v, g->rip - 2, code, 2, &bad, &error) && code[0] == 0xcd && code[1] == 0x80) {
		if (!gate_usable(v, 0x80)) {
			g->rip -= 2;
			inject_gp(v, g, 3, 0x80 * 8 + 2);
		} else {
			inject(v, g, 3, 0x80, false, 0);
		}
	} else { /* the guest's own entries for these are not modelled */
		g->rip -= 2;
		inject(v, g, 3, VEC_UD, false, 0);
	}
}

/*
 * #DB of icebp is a trap, but on some virtual machines the host reports the instruction itself, for ever (seen on an
 * AMD host). Without a step it can be nothing else.
 */
static void pass_icebp(struct vcpu *v, struct gregs *g)
{
	uint8_t code[2];
	gva_t bad;
	uint32_t error;

	if ((v->watch.on ? v->watch.kind == STEP_TRAPS : !(g->rflags & FL_TF)) &&
	    user_read(v, g->rip - 1, code, 2, &bad, &error) && code[0] != 0xf1 && code[1] == 0xf1)
		g->rip++;
}

/* An exception in guest user code; the host's trap number is the vector. */
static void deliver_exception(struct vcpu *v, struct uproc *u, struct gregs *g, uint32_t trapno, uint32_t error)
{
	STAT(u_exceptions);
	switch (trapno) {
	case VEC_DB:
		pass_icebp(v, g);
		if (!v->watch.on) /* else DR6 is set */
			v->dr[6] = 0xffff0ff0 |
				   (g->rflags & FL_TF || u->stepping ? 1u << 14
								     : 0); /* a popf that clears TF is stepped too */
		inject(v, g, 3, VEC_DB, false, 0);
		return;
	case 10: /* #TS, #NP, #SS carry an error code, as #GP does */
	case 11:
	case 12:
	case VEC_GP:
		inject(v, g, 3, trapno, true, error);
		return;
	case VEC_AC:
		inject(v, g, 3, VEC_AC, true, 0);
		return;
	case VEC_DE:
	case VEC_BP:
	case 4:
	case 5:
	case VEC_UD:
	case VEC_MF:
	case VEC_XM:
		inject(v, g, 3, trapno, false, 0);
		return;
	default:
		inject_gp(v, g, 3, 0);
	}
}

/* True: the guest kernel is needed and g is where it goes on. */
static bool handle_event(struct vcpu *v, struct uproc *u, struct gregs *g, struct gs_bases *gs)
{
	struct ushare *s = u->s;
	uint32_t why = s->why, trapno = (uint32_t)s->regs[UR_TRAPNO], error = (uint32_t)s->regs[UR_ERR];

	if (why == WHY_DONE || why == WHY_KICKED || why == U_SIG_KICK)
		return false;
	if (why == WHY_SYSCALL) {
		gva_t ret = upatch_return(u, g->rip);
		if (!ret) { /* guest code jumped into the stub or a trampoline that is not its own */
			inject_gp(v, g, 3, 0);
			return true;
		}
		STAT(u_fast_syscalls);
		g->rip = ret;
		deliver_syscall(v, g, gs);
		return true;
	}
	if (why == SIG_SYS) {
		if (g->rip - USTUB_BASE < STUB_SIZE) { /* guest code jumped to a system call of the stub */
			inject_gp(v, g, 3, 0);
		} else if ((s->call_addr & ~0xfffull) == VSYSCALL_PAGE) {
			/* The host emulates its own vsyscall page and has popped the return address already. */
			g->rip = s->call_addr;
			g->r[RSP] -= 8;
			inject_pf(v, g, 3, g->rip, PFEC_U | PFEC_I);
		} else if (s->sys_arch != AUDIT_ARCH_X86_64) {
			deliver_compat(v, g);
		} else {
			if (g->r[RAX] != 15) /* rt_sigreturn, see upatch.c */
				upatch_site(v, u, g->rip - 2);
			deliver_syscall(v, g, gs);
		}
		return true;
	}
	if (trapno == VEC_PF) {
		gva_t va = s->regs[UR_CR2];
		if (watch_active(v))
			watch_fault(v, g, va);
		uint32_t err = umap_fill(v, u, va, error);
		if (!err)
			return false;
		STAT(u_pf_injected);
		v->last_pf = va;
		v->last_pf_root = u->root;
		v->last_pf_access = error;
		inject_pf(v, g, 3, va, err);
		return true;
	}
	if (trapno == VEC_DB && v->watch.on && !watch_hit(v))
		return false;
	if (trapno == VEC_BP && debug_user_break(v, g))
		return false;
	/* A jump to an instruction that a rewritten system call has displaced. */
	if ((trapno == VEC_UD || trapno == VEC_GP) && upatch_to_host(u, s->regs[UR_RIP]) != s->regs[UR_RIP]) {
		STAT(u_displaced);
		return false;
	}
	deliver_exception(v, u, g, trapno, error);
	return true;
}

/* After a #PF that the guest has served the page is there: fill it before guest code faults again. */
static void prefill(struct vcpu *v, struct uproc *u)
{
	if (!v->last_pf)
		return;
	if (v->last_pf_root == u->root) /* another process has not touched it */
		umap_fill_fresh(v, u, v->last_pf, v->last_pf_access);
	v->last_pf = 0;
}

/* After a system call rcx and r11 are rip and flags, so a jump will do; not with flags that a jump would act on. */
static bool fast_return(const struct gregs *g)
{
	return g->r[RCX] == g->rip && g->r[R11] == g->rflags && !(g->rflags & (FL_TF | FL_RF | FL_AC | FL_NT)) &&
	       g->rip < 1ull << 47;
}

/* A stepped program must see its own instructions only. */
static void step_mode(struct vcpu *v, struct uproc *u, bool step)
{
	if (step && !u->stepping)
		umap_forget_copies(v, u);
	u->stepping = step;
}

static struct uproc *current_u(struct vcpu *v)
{
	struct uproc *u = v->last_u;

	if (u && u->root == (v->cr3 & PTE_ADDR) && u->alive && !atomic_load_explicit(&u->s->dead, memory_order_relaxed))
		return u;
	return upool_get(v, v->cr3);
}

/* Breakpoints and single steps. True: #DB is due before the next instruction. */
static bool prepare_watch(struct vcpu *v, struct uproc *u, struct gregs *g, uint64_t gs_base, bool *step)
{
	bool watch = watch_active(v), debug = v->step.busy;

	*step = debug || (watch && (v->watch_step || g->rflags & FL_TF));
	watch_free(v, g);
	if (*step && watch_begin(v, g, gs_base))
		return true;
	step_mode(v, u, watch || debug || g->rflags & FL_TF);
	if (watch && !*step)
		watch_hide(v, u);
	return false;
}

void enter_user(struct vcpu *v, struct gregs *g, bool swapped)
{
	struct gs_bases gs = {.active = rdgsbase()};

	gs.user = swapped ? vh.swapped_gs : gs.active;
	gs.kernel = swapped ? gs.active : vh.swapped_gs;
	vh.vflags = FL_IF | 2;
	struct parked at = {.g = g, .cpl = 3, .gs_base = &gs.user};
	for (;;) {
		if (vh.park || v->step.busy || debug_faulted) {
			vh.swapped_gs = gs.kernel;
			if (nmi_take(v, g, 3))
				break;
			debug_user_stop(v, &at);
			gs.kernel = vh.swapped_gs;
		}
		if (vh.pending && !v->step.busy) {
			int vec = interrupt_take(v);
			if (vec >= 0) {
				inject(v, g, 3, (unsigned)vec, false, 0);
				break;
			}
		}
		struct uproc *u = current_u(v);
		bool step = false;
		if (v->fpu_in && v->fpu_in != u)
			fpu_save(v);
		if (u->broken) {
			STAT(u_evicted);
			umap_drop(v, u);
		}
		if (u->strange)
			upool_wipe(v, u);
		if (u->resync || u->ninval || u->stale_copies)
			umap_sync(v, u);
		if (!u->maps)
			umap_first(v, u, g);
		prefill(v, u);
		if (((v->dr[7] & 0xff) || debug_watching || v->step.busy || v->watch.on || v->watch_step ||
		     u->stepping || g->rflags & (FL_TF | FL_RF)) &&
		    prepare_watch(v, u, g, gs.user, &step)) {
			inject(v, g, 3, VEC_DB, false, 0);
			debug_user_event(v, false, true, 0);
			break;
		}
		if (v->step.user_break || u->broken)
			continue;
		if (atomic_load_explicit(&u->s->kick, memory_order_relaxed))
			atomic_store_explicit(&u->s->kick, 0, memory_order_relaxed); /* published with the turn */
		atomic_store_explicit(&v->in_user, u,
				      memory_order_relaxed); /* for signals of this thread, and other vCPUs' kicks */
		if (several_vcpus() ? !upatch_enter(u) : u->stale_copies) { /* a fill can have found one wrong */
			atomic_store(&v->in_user, NULL);
			upatch_wait();
			continue;
		}
		uint32_t cmd = UCMD_RESUME | put_segments(v, u, gs.user);
		if (u->queued)
			cmd |= UCMD_BATCH;
		if (!v->fpu_in)
			cmd |= fpu_stage_to(v, u);
		u->fpu_saved = false;
		bool fast = !step && v->user_cs == SEL_USER_CS && fast_return(g);
		cmd |= put_regs(u, g, upatch_to_host(u, g->rip), fast);
		if (step)
			u->s->regs[UR_EFL] |= FL_TF;
		STAT(u_enter);
		atomic_signal_fence(memory_order_seq_cst);
		if ((vh.pending && !v->step.busy) || vh.park) /* the signal came before in_user was set */
			atomic_store(&u->s->kick, 1);
		bool ok = user_run(v, u, cmd);
		atomic_store_explicit(&v->in_user, NULL, memory_order_relaxed);
		if (!ok) { /* the process is gone: a fatal fault of this guest thread with what it had last */
			v->fpu_in = NULL;
			inject_gp(v, g, 3, 0);
			debug_user_event(v, false, true, 0);
			break;
		}
		if (u->s->why == WHY_KICKED ||
		    u->s->why == WHY_DONE) {     /* done: with a batch that failed, guest code has not run */
			u->fs_base = v->fs_base; /* these it has loaded */
			u->gs_base = gs.user;
			if (step)
				watch_end(v, g, false);
			continue;
		}
		get_regs(u, g);
		get_segments(v, u);
		if (u->copies_gone)
			upatch_let_go(u);
		bool stepped = step && u->s->why == SIG_TRAP && u->s->regs[UR_TRAPNO] == VEC_DB;
		if (step)
			watch_end(v, g, stepped);
		gs.user = canonical(u->gs_base, gs.user);
		gva_t rip = g->rip;
		bool leave = handle_event(v, u, g, &gs);
		if (step)
			debug_user_event(v, stepped, leave, rip);
		if (leave)
			break;
	}
	vh.swapped_gs = gs.swapped ? gs.user : gs.kernel;
	uint64_t active = gs.swapped ? gs.kernel : gs.user;
	if (active != gs.active)
		wrgsbase(active);
}
