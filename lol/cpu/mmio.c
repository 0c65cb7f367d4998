/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Moves to and from registers of devices. Those that the site table has (the functions of Linux' asm/io.h) are rewritten
 * and come here without a signal; others trap. Runs in K, in site or signal context.
 */
#include "cpu/debug.h"
#include "cpu/insn.h"

bool mmio_access(struct vcpu *v, struct gregs *g, const struct insn *in, gpa_t gpa)
{
	uint64_t val;

	switch (in->op) {
	case OP_LOAD:
		reg_set(g, in->reg, in->size, in->high8, io_mmio_read(v, gpa, in->size));
		break;
	case OP_LOADZX:
		reg_set(g, in->reg, in->dst_size, false, io_mmio_read(v, gpa, in->size));
		break;
	case OP_LOADSX:
		val = io_mmio_read(v, gpa, in->size);
		val = in->size == 1   ? (uint64_t)(int8_t)val
		      : in->size == 2 ? (uint64_t)(int16_t)val
				      : (uint64_t)(int32_t)val;
		reg_set(g, in->reg, in->dst_size, false, val);
		break;
	case OP_STORE:
		io_mmio_write(v, gpa, in->size, reg_get(g, in->reg, in->size, in->high8));
		break;
	case OP_STORE_IMM:
		io_mmio_write(v, gpa, in->size, (uint64_t)in->imm);
		break;
	default:
		return false;
	}
	return true;
}

bool mmio_trapped(struct vcpu *v, struct gregs *g, gpa_t gpa)
{
	uint8_t bytes[15];
	struct insn in;

	STAT(mmio_traps);
	for (unsigned i = 0; i < sizeof(bytes); i++)
		if (!debug_read_text(g->rip + i, &bytes[i], 1))
			bytes[i] = 0xcc;
	if (!decode(bytes, sizeof(bytes), g->rip, &in) || !in.mem || !mmio_access(v, g, &in, gpa))
		return false;
	g->rip += in.len;
	return true;
}

bool mmio_op(const struct insn *in)
{
	return in->mem && in->op >= OP_LOAD && in->op <= OP_STORE_IMM;
}

/* The same functions are used on memory: firmware tables, say, or a frame buffer. */
static bool memory_access(struct gregs *g, const struct insn *in, gva_t va)
{
	uint8_t bytes[8];

	if (in->op == OP_STORE || in->op == OP_STORE_IMM) {
		uint64_t val = in->op == OP_STORE ? reg_get(g, in->reg, in->size, in->high8) : (uint64_t)in->imm;
		return k_write(va, &val, in->size);
	}
	if (!k_read(va, bytes, in->size))
		return false;
	access_at(g, in, bytes);
	return true;
}

void emulate_mmio(struct vcpu *v, struct gregs *g, const struct insn *in)
{
	gva_t va = insn_ea(in, g);
	bool write = in->op == OP_STORE || in->op == OP_STORE_IMM, there, done = false;
	struct walk w;

	STAT(mmio_sites);
	there = pt_walk(k_root(v), va, &w);
	if (there && (!write || w.writable))
		done = ram_ptr(&ram, w.gpa & PAGE_MASK, PAGE_SIZE) ? memory_access(g, in, va)
								   : mmio_access(v, g, in, w.gpa);
	if (done) {
		g->rip = next_rip(in);
		return;
	}
	g->rip = in->va;
	inject_pf(v, g, 0, va, (write ? PFEC_W : 0) | (there ? PFEC_P : 0));
}
