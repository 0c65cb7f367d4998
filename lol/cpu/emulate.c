/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What each sensitive instruction does to the virtual CPU.  Runs in K, in site context
 * when the site is rewritten, in signal context when an instruction trapped.
 */
#include <sys/syscall.h>

#include "cpu/debug.h"
#include "cpu/insn.h"
#include "ivmm-sites.h"
#include "mmu/uproc.h"

K_ALLOW(sched_yield);

static void set_pair(struct gregs *g, uint64_t v)
{
	g->r[RAX] = (uint32_t)v;
	g->r[RDX] = v >> 32;
}

/* Operand in a register or in kernel memory. */
static bool operand_read(const struct gregs *g, const struct insn *in, unsigned size, uint64_t *val)
{
	*val = 0;
	if (!in->mem) {
		*val = reg_get(g, in->reg, size, false);
		return true;
	}
	return k_read(insn_ea(in, g), val, size);
}

static bool operand_write(struct gregs *g, const struct insn *in, unsigned size, uint64_t val)
{
	if (!in->mem) {
		reg_set(g, in->reg, size, false, val);
		return true;
	}
	return k_write(insn_ea(in, g), &val, size);
}

static void write_cr3(struct vcpu *v, uint64_t val)
{
	STAT(cr3_writes);
	bool keep = (val >> 63) && (v->cr4 & 1u << 17);
	uint64_t old = v->cr3;

	if (!keep || ((old ^ val) & PTE_ADDR))
		user_park(v, true);
	v->cr3 = val & ~(1ull << 63);
	if (!keep)
		upool_flush(v, val, (old ^ val) & PTE_ADDR);
	if (!keep || ((old ^ val) & PTE_ADDR))
		utlb_flush(v);
	if (val & PTE_ADDR)
		k_root(v);
}

static void write_cr4(struct vcpu *v, uint64_t val)
{
	uint64_t changed = v->cr4 ^ val;

	v->cr4 = val;
	if (changed & (1u << 7 | 1u << 4 | 1u << 17 | 1u << 20)) { /* PGE, PSE, PCIDE, SMEP: the whole TLB */
		k_flush_all();
		user_park(v, false);
		upool_flush_everything(v);
		utlb_flush(v);
	}
}

static void write_cr(struct vcpu *v, struct gregs *g, const struct insn *in)
{
	uint64_t val = g->r[in->reg & 15];

	switch (in->reg2) {
	case 0:
		v->cr0 = val;
		break;
	case 2:
		v->cr2 = val;
		break;
	case 3:
		write_cr3(v, val);
		break;
	case 4:
		write_cr4(v, val);
		break;
	case 8:
		v->lapic.tpr = (uint32_t)(val & 15) << 4;
		vh.pending = 1;
		break;
	}
}

static uint64_t read_cr(struct vcpu *v, unsigned n)
{
	return n == 0 ? v->cr0 : n == 2 ? v->cr2 : n == 3 ? v->cr3 : n == 4 ? v->cr4 : n == 8 ? v->lapic.tpr >> 4 : 0;
}

static void invlpg(struct vcpu *v, gva_t va)
{
	STAT(invlpg);
	if (k_is_kernel(va))
		k_flush_page(va);
	if (va < K_USER_END) { /* image addresses are user addresses in a process */
		user_park(v, false);
		upool_invlpg(v, va);
		utlb_flush_page(v, va);
	}
}

/* The descriptor of a selector that is not null; false: outside its table. There is no LDT. */
static bool descriptor(struct vcpu *v, uint16_t sel, uint64_t *d)
{
	return !(sel & 4) && (sel & 0xfff8) + 7u <= v->gdt_limit && k_read(v->gdt_base + (sel & 0xfff8), d, 8);
}

#define DESC_P (1ull << 47)
#define DESC_S (1ull << 44)
#define DESC_CODE (1ull << 43)
#define DESC_CONFORMING (1ull << 42)
#define DESC_RW (1ull << 41)
#define DESC_L (1ull << 53)
#define DESC_D (1ull << 54)
#define DESC_DPL(d) ((unsigned)((d) >> 45) & 3)

/* SDM vol. 2, MOV: vector of the fault that loading sel into a data segment register raises, 0: none. */
static unsigned segment_fault(struct vcpu *v, uint16_t sel, unsigned cpl)
{
	uint64_t d;

	if (!(sel & 0xfffc))
		return 0;
	if (!descriptor(v, sel, &d) || !(d & DESC_S) || ((d & DESC_CODE) && !(d & DESC_RW)))
		return VEC_GP;
	if (!((d & DESC_CODE) && (d & DESC_CONFORMING)) && DESC_DPL(d) < (cpl > (sel & 3u) ? cpl : sel & 3u))
		return VEC_GP;
	return d & DESC_P ? 0 : VEC_NP;
}

bool segment_loadable(struct vcpu *v, uint16_t sel, unsigned cpl)
{
	return !segment_fault(v, sel, cpl);
}

/*
 * What iretq to user code checks of cs and ss (SDM vol. 2, IRET). Returns the vector of the fault, 0: none, with the
 * selector for the error code. The host has flat segments only: 64-bit code and 32-bit code at 0.
 */
static unsigned iret_fault(struct vcpu *v, const uint64_t f[5], uint32_t *error)
{
	uint16_t cs = (uint16_t)f[1], ss = (uint16_t)f[4];
	uint64_t d;

	*error = cs & 0xfffc;
	if (!(cs & 0xfffc) || !descriptor(v, cs, &d) || (d & (DESC_S | DESC_CODE)) != (DESC_S | DESC_CODE) ||
	    ((d & DESC_CONFORMING) ? DESC_DPL(d) > 3 : DESC_DPL(d) != 3) || ((d & DESC_L) && (d & DESC_D)))
		return VEC_GP;
	if (!(d & DESC_P))
		return VEC_NP;
	bool wide = d & DESC_L;
	if (cs != (wide ? SEL_USER_CS : SEL_USER32_CS)) /* a segment of the guest's that the host has not */
		return VEC_GP;
	*error = ss & 0xfffc;
	if (!(ss & 0xfffc) || (ss & 3) != 3 || !descriptor(v, ss, &d) ||
	    (d & (DESC_S | DESC_CODE | DESC_RW)) != (DESC_S | DESC_RW) || DESC_DPL(d) != 3)
		return VEC_GP;
	if (!(d & DESC_P))
		return VEC_SS;
	*error = 0;
	if (ss != SEL_USER_DS)
		return VEC_GP;
	if (wide ? f[0] >= 1ull << 47 && f[0] < ~0ull << 47 : f[0] >> 32)
		return VEC_GP;
	return 0;
}

/* iretq (SDM vol. 2): frame at rsp. To user mode the crossing begins here. swapped: see enter_user(). */
static void iret(struct vcpu *v, struct gregs *g, bool swapped)
{
	uint64_t f[5];
	uint32_t error = 0;
	unsigned vector = 0;

	if (!k_read(g->r[RSP], f, sizeof(f))) {
		inject_gp(v, g, 0, 0);
		return;
	}
	if ((f[1] & 3) == 3)
		vector = iret_fault(v, f, &error);
	else if (f[0] >= 1ull << 47)
		vector = VEC_GP;
	if (vector) {
		inject(v, g, 0, vector, true, error);
		return;
	}
	g->rip = f[0];
	g->r[RSP] = f[3];
	g->rflags = f[2];
	if (v->nmi_blocked) {
		v->nmi_blocked = false;
		vh.park = 1; /* another may be waiting */
	}
	if ((f[1] & 3) == 0) {
		STAT(iret_kernel);
		vh.vflags = (f[2] & FL_IF) | 2;
		return;
	}
	v->user_cs = (uint16_t)f[1];
	enter_user(v, g, swapped);
}

static void swapgs(void)
{
	uint64_t val = rdgsbase();

	wrgsbase(vh.swapped_gs);
	vh.swapped_gs = val;
}

/* A swapgs that iretq comes directly behind, mostly to user code. */
static void swapgs_iret(struct vcpu *v, struct gregs *g, const struct insn *in)
{
	uint64_t f[5];
	uint32_t error;

	if (!v->step.on && !debug_apart && k_read(g->r[RSP], f, sizeof(f)) && (f[1] & 3) == 3 &&
	    !iret_fault(v, f, &error)) {
		iret(v, g, true);
	} else {
		swapgs();
		g->rip = next_rip(in);
	}
}

static void sysret(struct vcpu *v, struct gregs *g, bool swapped)
{
	g->rip = g->r[RCX];
	g->rflags = g->r[R11] & ~(uint64_t)(FL_RF | 0x20000);
	v->user_cs = SEL_USER_CS;
	enter_user(v, g, swapped);
}

static void popf(struct gregs *g)
{
	uint64_t f;

	if (!k_read(g->r[RSP], &f, 8))
		return;
	g->r[RSP] += 8;
	g->rflags = f & (FL_ARITH | FL_DF | FL_TF | FL_AC | 0x200000);
	vh.vflags = (f & FL_IF) | 2;
}

static void descriptor_table(struct vcpu *v, struct gregs *g, const struct insn *in)
{
	struct {
		uint16_t limit;
		uint64_t base;
	} __attribute__((packed)) d;
	gva_t ea = insn_ea(in, g);

	if (in->op == OP_SGDT || in->op == OP_SIDT) {
		d.limit = in->op == OP_SGDT ? v->gdt_limit : v->idt_limit;
		d.base = in->op == OP_SGDT ? v->gdt_base : v->idt_base;
		k_write(ea, &d, sizeof(d));
	} else if (k_read(ea, &d, sizeof(d))) {
		if (in->op == OP_LGDT) {
			v->gdt_limit = d.limit;
			v->gdt_base = d.base;
		} else {
			v->idt_limit = d.limit;
			v->idt_base = d.base;
		}
	}
}

/* ltr: the TSS's base from its descriptor (SDM vol. 3, 8.2.3). */
static void load_tr(struct vcpu *v, uint16_t sel)
{
	uint64_t d[2];

	v->tr = sel;
	if (k_read(v->gdt_base + (sel & 0xfff8), d, sizeof(d)))
		v->tss_base = (d[0] >> 16 & 0xffffff) | (d[0] >> 56 & 0xff) << 24 | d[1] << 32;
}

static void mov_to_seg(struct vcpu *v, struct gregs *g, const struct insn *in)
{
	uint64_t sel;

	if (!operand_read(g, in, 2, &sel))
		return;
	unsigned vector = in->reg2 == 2 ? 0 : segment_fault(v, (uint16_t)sel, 0);
	if (vector) {
		g->rip = in->va;
		inject(v, g, 0, vector, true, sel & 0xfffc);
		return;
	}
	v->sel[in->reg2 % 6] = (uint16_t)sel;
	if (in->reg2 == 4) /* all segments are flat */
		v->fs_base = 0;
	if (in->reg2 == 5)
		wrgsbase(0);
}

static uint16_t segment_value(struct vcpu *v, unsigned n)
{
	return n == 1 ? SEL_KERNEL_CS : n < 6 ? v->sel[n] : 0;
}

/* lar, lsl, verr, verw: only the guest's own flat segments exist, so look at its GDT. */
static void segment_query(struct vcpu *v, struct gregs *g, const struct insn *in)
{
	uint64_t sel = 0, d = 0;
	bool ok = (in->mem ? k_read(insn_ea(in, g), &sel, 2)
			   : (sel = reg_get(g, in->reg2 != NO_REG ? in->reg2 : in->reg, 2, false), true));

	ok = ok && (sel & 0xfffc) && descriptor(v, (uint16_t)sel, &d) && (d & DESC_P);
	g->rflags = ok ? g->rflags | FL_ZF : g->rflags & ~(uint64_t)FL_ZF;
	if (!ok)
		return;
	if (in->op == OP_LAR)
		reg_set(g, in->reg, in->dst_size, false, (d >> 32) & 0xf0ff00);
	if (in->op == OP_LSL) {
		uint64_t limit = (d & 0xffff) | (d >> 32 & 0xf0000);
		reg_set(g, in->reg, in->dst_size, false, d >> 55 & 1 ? limit << 12 | 0xfff : limit);
	}
}

static void in_out(struct vcpu *v, struct gregs *g, const struct insn *in)
{
	uint16_t port = in->imm_port ? (uint8_t)in->imm : (uint16_t)g->r[RDX];

	STAT(port_io);
	if (in->op == OP_IN)
		reg_set(g, RAX, in->size, false, io_port_read(v, port, in->size));
	else
		io_port_write(v, port, in->size, reg_get(g, RAX, in->size, false));
}

static void in_out_string(struct vcpu *v, struct gregs *g, const struct insn *in)
{
	uint64_t n = in->rep ? g->r[RCX] : 1, val;
	unsigned ptr = in->op == OP_INS ? RDI : RSI;

	for (; n; n--) {
		val = 0;
		if (in->op == OP_INS) {
			val = io_port_read(v, (uint16_t)g->r[RDX], in->size);
			k_write(g->r[ptr], &val, in->size);
		} else {
			k_read(g->r[ptr], &val, in->size);
			io_port_write(v, (uint16_t)g->r[RDX], in->size, val);
		}
		g->r[ptr] += in->size;
		if (in->rep)
			g->r[RCX]--;
	}
}

static void vmcall(struct vcpu *v, struct gregs *g)
{
	(void)v;
	if ((uint32_t)g->r[RAX] == IVMM_CALL_MODULE) {
		vector_registers_save();
		sites_rewrite(g->r[RDI], g->r[RSI], true);
		vector_registers_restore();
		g->r[RAX] = 0;
	} else {
		g->r[RAX] = (uint64_t)-38;
	}
}

static void do_cpuid(struct vcpu *v, struct gregs *g)
{
	uint32_t out[4];

	cpuid_read(v, (uint32_t)g->r[RAX], (uint32_t)g->r[RCX], out);
	g->r[RAX] = out[0];
	g->r[RBX] = out[1];
	g->r[RCX] = out[2];
	g->r[RDX] = out[3];
}

/* hlt; with interrupts off only INIT ends it, and when all vCPUs are in it the guest has stopped for good. */
static void hlt(struct vcpu *v, struct gregs *g)
{
	if (virtual_if())
		vcpu_idle(v);
	else
		vcpu_dead(v, g);
}

static bool msr_access(struct vcpu *v, struct gregs *g, const struct insn *in)
{
	uint64_t val = 0;
	bool ok;

	if (in->op == OP_WRMSR) {
		ok = msr_write(v, (uint32_t)g->r[RCX], pair(g));
	} else {
		ok = msr_read(v, (uint32_t)g->r[RCX], &val);
		if (ok)
			set_pair(g, val);
	}
	if (!ok) {
		g->rip = in->va;
		inject_gp(v, g, 0, 0);
	}
	return ok;
}

void emulate(struct vcpu *v, struct gregs *g, const struct insn *in)
{
	uint64_t val;

	if (in->uaccess) {
		emulate_uaccess(v, g, in);
		return;
	}
	if (in->mmio) {
		emulate_mmio(v, g, in);
		return;
	}
	switch (in->op) {
	/* these set rip themselves */
	case OP_IRET:
		g->rip = in->va;
		iret(v, g, false);
		return;
	case OP_SYSRET:
		sysret(v, g, false);
		return;
	case OP_SWAPGS_SYSRET:
		if (v->step.on || debug_apart) {
			swapgs();
			g->rip = next_rip(in);
			return;
		}
		sysret(v, g, true);
		return;
	case OP_SWAPGS_IRET:
		swapgs_iret(v, g, in);
		return;
	case OP_LRET:
		k_read(g->r[RSP], &g->rip, 8);
		g->r[RSP] += 16;
		return;
	case OP_XSAVE:
	case OP_FXSAVE:
		state_save(v, g, in);
		return;
	case OP_XRSTOR:
	case OP_FXRSTOR:
		state_restore(v, g, in);
		return;
	case OP_RDMSR:
	case OP_WRMSR:
		if (msr_access(v, g, in))
			g->rip = next_rip(in);
		return;
	}
	g->rip = next_rip(in);
	switch (in->op) {
	case OP_CLI:
		vh.vflags &= ~(uint64_t)FL_IF;
		break;
	case OP_STI:
		vh.vflags |= FL_IF;
		break;
	case OP_STI_HLT:
		vh.vflags |= FL_IF;
		vcpu_idle(v);
		break;
	case OP_PUSHF:
		g->r[RSP] -= 8;
		val = vh.vflags | (g->rflags & FL_ARITH);
		k_write(g->r[RSP], &val, 8);
		break;
	case OP_POPF:
		popf(g);
		break;
	case OP_HLT:
		hlt(v, g);
		break;
	case OP_SWAPGS:
		swapgs();
		break;
	case OP_CPUID:
		do_cpuid(v, g);
		break;
	case OP_INVLPG:
		invlpg(v, insn_ea(in, g));
		break;
	case OP_INVPCID: /* masked in CPUID; a superset of what it asks */
		k_flush_all();
		user_park(v, false);
		upool_flush_everything(v);
		utlb_flush(v);
		break;
	case OP_CLTS:
		v->cr0 &= ~8ull;
		break;
	case OP_LMSW:
		operand_read(g, in, 2, &val);
		v->cr0 = (v->cr0 & ~0xeull) | (val & 0xf);
		break;
	case OP_SMSW:
		operand_write(g, in, in->mem ? 2 : in->size, v->cr0);
		break;
	case OP_MOV_TO_CR:
		write_cr(v, g, in);
		break;
	case OP_MOV_FROM_CR:
		g->r[in->reg & 15] = read_cr(v, in->reg2);
		break;
	case OP_MOV_TO_DR:
		v->dr[in->reg2 & 7] = g->r[in->reg & 15];
		break;
	case OP_MOV_FROM_DR:
		g->r[in->reg & 15] = v->dr[in->reg2 & 7];
		break;
	case OP_LGDT:
	case OP_LIDT:
	case OP_SGDT:
	case OP_SIDT:
		descriptor_table(v, g, in);
		break;
	case OP_LLDT:
		operand_read(g, in, 2, &val);
		v->ldtr = (uint16_t)val;
		break;
	case OP_SLDT:
		operand_write(g, in, in->mem ? 2 : in->size, v->ldtr);
		break;
	case OP_LTR:
		operand_read(g, in, 2, &val);
		load_tr(v, (uint16_t)val);
		break;
	case OP_STR:
		operand_write(g, in, in->mem ? 2 : in->size, v->tr);
		break;
	case OP_IN:
	case OP_OUT:
		in_out(v, g, in);
		break;
	case OP_INS:
	case OP_OUTS:
		in_out_string(v, g, in);
		break;
	case OP_XSETBV:
		v->xcr0 = pair(g) & xcr0_allowed();
		break;
	case OP_XGETBV:
		set_pair(g, g->r[RCX] ? 0 : v->xcr0);
		break;
	case OP_RDPMC:
		set_pair(g, 0);
		break;
	case OP_RDPID:
		g->r[in->reg & 15] = v->tsc_aux;
		break;
	case OP_VMCALL:
		vmcall(v, g);
		break;
	case OP_MOV_FROM_SEG:
		operand_write(g, in, in->mem ? 2 : in->size, segment_value(v, in->reg2));
		break;
	case OP_MOV_TO_SEG:
		mov_to_seg(v, g, in);
		break;
	case OP_PUSH_SEG:
		g->r[RSP] -= 8;
		val = segment_value(v, in->reg2);
		k_write(g->r[RSP], &val, 8);
		break;
	case OP_POP_SEG:
		val = 0;
		k_read(g->r[RSP], &val, 8);
		g->r[RSP] += 8;
		v->sel[in->reg2 % 6] = (uint16_t)val;
		if (in->reg2 == 4)
			v->fs_base = 0;
		break;
	case OP_LAR:
	case OP_LSL:
	case OP_VERR:
	case OP_VERW:
		segment_query(v, g, in);
		break;
	case OP_RDFSBASE:
		reg_set(g, in->reg, in->size, false, v->fs_base);
		break;
	case OP_WRFSBASE:
		v->fs_base = reg_get(g, in->reg, in->size, false);
		break;
	case OP_RDGSBASE:
		reg_set(g, in->reg, in->size, false, rdgsbase());
		break;
	case OP_WRGSBASE:
		wrgsbase(reg_get(g, in->reg, in->size, false));
		break;
	case OP_LKGS:
		v->sel[5] = (uint16_t)g->r[in->reg & 15];
		vh.swapped_gs = 0;
		break;
	case OP_YIELD:
		STAT(yields);
		sys3(SYS_sched_yield, 0, 0, 0);
		break;
	case OP_NOP:
		break;
	default:
		k_bug("no emulation for instruction %u at %lx", in->op, in->va);
	}
}
