/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Instruction bytes of a hostile guest through K's decoder, and what the emulator takes from it: operands as indices of registers,
 * sizes as shifts. Input: 15 bytes of instruction (fewer at the end of a page), then registers.
 */
#include <stdlib.h>
#include <string.h>

#include "cpu/insn.h"

__thread struct vhot vh __attribute__((tls_model("local-exec")));

static void check_operand(const struct insn *in, unsigned n)
{
	if (in->op >= OP_LAST || !in->len || in->len > n || in->len > 15)
		abort();
	if ((in->base != NO_REG && in->base > 15) || (in->index != NO_REG && in->index > 15) || in->scale > 8)
		abort();
	if (in->size > 64 || in->dst_size > 8)
		abort();
	if (in->op >= OP_LOAD && in->op != OP_MOVS && in->op != OP_STOS && in->size != 1 && in->size != 2 &&
	    in->size != 4 && in->size != 8)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct gregs g = {0};
	struct mem_access a[ACCESSES_MAX];
	struct insn in;
	uint8_t kind, *bytes;
	int64_t target;
	size_t n = size < 15 ? size : 15;

	if (!n || !(bytes = malloc(n))) /* of its own, so that reading on is seen */
		return 0;
	memcpy(bytes, data, n);
	memcpy(&g, data + n, size - n < sizeof(g) ? size - n : sizeof(g));
	if (decode(bytes, n, g.rip, &in)) {
		check_operand(&in, (unsigned)n);
		gva_t ea = in.seg == SEG_GS ? 0 : insn_ea(&in, &g);
		uint64_t v = reg_get(&g, in.reg, in.size, in.high8) + reg_get(&g, in.reg2, 8, false) + ea;
		reg_set(&g, in.reg, in.dst_size ? in.dst_size : in.size, in.high8, v);
		next_rip(&in);
	}
	unsigned count = decode_accesses(bytes, n, &g, 1ull << 40, 1ull << 41, a, &kind);
	if (count > ACCESSES_MAX || kind > STEP_TRAPS)
		abort();
	for (unsigned i = 0; i < count; i++)
		if (a[i].size > 16384)
			abort();
	if (plain_length(bytes, n) > n || branch_length(bytes, n, &target) > n)
		abort();
	free(bytes);
	return 0;
}
