/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Moves to and from registers of devices. Those that the site table has (the functions of Linux' asm/io.h) are rewritten
 * and come here without a signal; others trap. Runs in K, in site or signal context.
 */
#include "cpu/insn.h"

static bool is_store(const struct insn *in)
{
	return in->op == OP_STORE || in->op == OP_STORE_IMM;
}

static uint64_t stored(const struct gregs *g, const struct insn *in)
{
	return in->op == OP_STORE ? reg_get(g, in->reg, in->size, in->high8) : (uint64_t)in->imm;
}

bool mmio_op(const struct insn *in)
{
	return in->mem && in->op >= OP_LOAD && in->op <= OP_STORE_IMM;
}

/* The move at a register of a device; rip stays. */
static void mmio_access(struct vcpu *v, struct gregs *g, const struct insn *in, gpa_t gpa)
{
	uint64_t val;

	if (is_store(in)) {
		io_mmio_write(v, gpa, in->size, stored(g, in));
		return;
	}
	val = io_mmio_read(v, gpa, in->size);
	access_at(g, in, (uint8_t *)&val);
}

bool mmio_trapped(struct vcpu *v, struct gregs *g, gpa_t gpa)
{
	struct insn in;

	STAT(mmio_traps);
	if (!decode_at(g->rip, &in) || !mmio_op(&in))
		return false;
	mmio_access(v, g, &in, gpa);
	g->rip += in.len;
	return true;
}

/* The same functions are used on memory: firmware tables, say, or a frame buffer. */
static bool memory_access(struct gregs *g, const struct insn *in, gva_t va)
{
	uint64_t val = 0;

	if (is_store(in)) {
		val = stored(g, in);
		return k_write(va, &val, in->size);
	}
	if (!k_read(va, &val, in->size))
		return false;
	access_at(g, in, (uint8_t *)&val);
	return true;
}

void emulate_mmio(struct vcpu *v, struct gregs *g, const struct insn *in)
{
	gva_t va = insn_ea(in, g);
	bool write = is_store(in), there, done = false;
	struct walk w;

	STAT(mmio_sites);
	there = pt_walk(k_root(v), va, &w);
	if (there && (!write || w.writable)) {
		done = true;
		if (ram_ptr(&ram, w.gpa & PAGE_MASK, PAGE_SIZE))
			done = memory_access(g, in, va);
		else
			mmio_access(v, g, in, w.gpa);
	}
	if (done) {
		g->rip = next_rip(in);
		return;
	}
	g->rip = in->va;
	inject_pf(v, g, 0, va, (write ? PFEC_W : 0) | (there ? PFEC_P : 0));
}
