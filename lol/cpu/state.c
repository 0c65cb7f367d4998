/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * xsave, xrstor, fxsave, fxrstor (SDM vol. 1, chapter 13) as the guest kernel uses them: on
 * the state of the user thread that runs on this vCPU, which is in a U's registers or in
 * v->stage (user.c).  Standard format only.  Runs in K, site context.
 */
#include "cpu/insn.h"

/* Image addresses are user addresses too, so the function tells: only signal frames are in user memory. */
static bool state_in_user(const struct insn *in, gva_t va)
{
	const struct kboot *b = &kctl->boot;

	return va < K_USER_END && ((in->va >= b->sigframe_save[0] && in->va < b->sigframe_save[1]) ||
				   (in->va >= b->sigframe_restore[0] && in->va < b->sigframe_restore[1]));
}

/* xsave and friends: the memory operand is kernel memory, or user memory for a signal frame. */
void state_save(struct vcpu *v, struct gregs *g, const struct insn *in)
{
	gva_t va = insn_ea(in, g), bad;
	uint64_t mask = in->op == OP_FXSAVE ? 3 : pair(g) & v->xcr0;
	uint32_t size = in->op == OP_FXSAVE ? 512 : xstate_size(mask), error = 0;
	uint8_t *hdr = v->stage + 512;
	uint64_t bv;

	if (v->fpu_in)
		fpu_save(v);
	/* From here on the stage is the truth; a resume loads it back. */
	__builtin_memcpy(&bv, hdr, 8);
	if (state_in_user(in, va)) {
		uint64_t new_bv = bv & mask;
		bool ok = user_write(v, va, v->stage, 512, &bad, &error);
		if (ok && in->op == OP_XSAVE) {
			uint64_t old_bv = 0;
			ok = user_read(v, va + 512, &old_bv, 8, &bad, &error);
			new_bv |= old_bv & ~mask;
			ok = ok && user_write(v, va + 512, &new_bv, 8, &bad, &error) &&
			     user_write(v, va + 576, v->stage + 576, size - 576, &bad, &error);
		}
		if (!ok) {
			g->rip = in->va;
			inject_pf(v, g, 0, bad, error);
			return;
		}
		g->rip = next_rip(in);
		return;
	}
	k_write(va, v->stage, 512);
	if (in->op == OP_XSAVE) {
		uint64_t old_bv = 0;
		k_read(va + 512, &old_bv, 8);
		uint64_t new_bv = (bv & mask) | (old_bv & ~mask);
		k_write(va + 512, &new_bv, 8);
		if (size > 576)
			k_write(va + 576, v->stage + 576, size - 576);
	}
	g->rip = next_rip(in);
}

static bool image_ok(struct vcpu *v, const uint8_t *image, bool fx)
{
	uint64_t bv, comp;
	uint32_t mxcsr;

	__builtin_memcpy(&mxcsr, image + 24, 4);
	if (mxcsr & ~0x2ffffu)
		return false;
	if (fx)
		return true;
	__builtin_memcpy(&bv, image + 512, 8);
	__builtin_memcpy(&comp, image + 520, 8);
	return !(bv & ~v->xcr0) && !comp;
}

void state_restore(struct vcpu *v, struct gregs *g, const struct insn *in)
{
	static uint8_t image[MAX_VCPUS][XSTATE_MAX] __attribute__((aligned(64)));
	uint8_t *img = image[v->id];
	gva_t va = insn_ea(in, g), bad;
	bool fx = in->op == OP_FXRSTOR, user = state_in_user(in, va);
	uint64_t mask = fx ? 3 : pair(g) & v->xcr0;
	uint32_t size = fx ? 512 : xstate_size(v->xcr0), error = 0;

	__builtin_memset(img, 0, XSTATE_MAX);
	if (user && !user_read(v, va, img, size, &bad, &error)) {
		g->rip = in->va;
		inject_pf(v, g, 0, bad, error);
		return;
	}
	if (!user && !k_read(va, img, size)) {
		g->rip = in->va;
		inject_pf(v, g, 0, va, 0);
		return;
	}
	if (!image_ok(v, img, fx)) {
		g->rip = in->va;
		inject_gp(v, g, 0, 0);
		return;
	}
	uint64_t bv = 3, old_bv;
	if (!fx)
		__builtin_memcpy(&bv, img + 512, 8);
	if (v->fpu_in) {
		/* Components outside the mask stay: fetch them first, unless all are replaced. */
		if ((mask & v->xcr0) != v->xcr0)
			fpu_save(v);
		v->fpu_in = NULL;
	}
	__builtin_memcpy(&old_bv, v->stage + 512, 8);
	if (mask & 1)
		__builtin_memcpy(v->stage, img, 24), __builtin_memcpy(v->stage + 32, img + 32, 128);
	if (mask & 6)
		__builtin_memcpy(v->stage + 24, img + 24, 8);
	if (mask & 2)
		__builtin_memcpy(v->stage + 160, img + 160, 256);
	if (!fx && size > 576 && (mask & ~3ull) == (v->xcr0 & ~3ull))
		__builtin_memcpy(v->stage + 576, img + 576, size - 576);
	old_bv = (old_bv & ~mask) | (bv & mask);
	__builtin_memcpy(v->stage + 512, &old_bv, 8);
	g->rip = next_rip(in);
}
