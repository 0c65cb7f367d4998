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

/* xsave and its kin to a signal frame: components in their initial state are written too, as zeros. */
static bool save_to_user(struct vcpu *v, gva_t va, const uint8_t *image, uint64_t mask, bool fx, gva_t *bad,
			 uint32_t *error)
{
	uint8_t *whole = v->image;
	uint32_t size = xstate_size(mask);
	uint64_t bv = xstate_bv(image) & mask, old_bv = 0;

	__builtin_memset(whole, 0, size);
	xstate_copy(whole, image, bv);
	if (!user_write(v, va, whole, fx ? XSTATE_HEADER : XSTATE_LEGACY, bad, error))
		return false;
	if (fx)
		return true;
	if (!user_read(v, va + XSTATE_HEADER, &old_bv, 8, bad, error))
		return false;
	bv |= old_bv & ~mask;
	return user_write(v, va + XSTATE_HEADER, &bv, 8, bad, error) &&
	       user_write(v, va + 576, whole + 576, size - 576, bad, error);
}

/* The same to kernel memory, where Linux looks at XSTATE_BV: as xsaveopt does it. */
static void save_to_kernel(gva_t va, const uint8_t *image, uint64_t mask, bool fx)
{
	uint8_t *to = k_linear(va, xstate_size(mask));
	uint64_t bv = xstate_bv(image) & mask, old_bv = 0;

	if (fx) {
		k_write(va, image, XSTATE_LEGACY);
	} else if (to && !(xstate_bv(to) & ~mask)) {
		xstate_copy(to, image, bv);
	} else {
		k_read(va + XSTATE_HEADER, &old_bv, 8);
		bv |= old_bv & ~mask;
		k_write(va, image, XSTATE_LEGACY);
		k_write(va + XSTATE_HEADER, &bv, 8);
		k_write(va + 576, image + 576, xstate_size(mask) - 576);
	}
}

/* xsave and friends: the memory operand is kernel memory, or user memory for a signal frame. */
void state_save(struct vcpu *v, struct gregs *g, const struct insn *in)
{
	gva_t va = insn_ea(in, g), bad;
	bool fx = in->op == OP_FXSAVE;
	uint64_t mask = fx ? 3 : pair(g) & v->xcr0;
	uint32_t error = 0;
	const uint8_t *image = fpu_image(v);

	if (!state_in_user(in, va)) {
		save_to_kernel(va, image, mask, fx);
	} else if (!save_to_user(v, va, image, mask, fx, &bad, &error)) {
		g->rip = in->va;
		inject_pf(v, g, 0, bad, error);
		return;
	}
	g->rip = next_rip(in);
}

/* Take the components of mask from an image into the stage. False: #GP, nothing is taken. */
static bool take(struct vcpu *v, const uint8_t *img, uint64_t mask, bool fx)
{
	uint64_t bv = 3, comp = 0;
	uint32_t mxcsr, saved;

	__builtin_memcpy(&mxcsr, img + 24, 4);
	if (!fx) {
		__builtin_memcpy(&bv, img + XSTATE_HEADER, 8);
		__builtin_memcpy(&comp, img + XSTATE_HEADER + 8, 8);
	}
	if (mxcsr & ~0x2ffffu || bv & ~v->xcr0 || comp)
		return false;
	if ((mask & v->xcr0) == v->xcr0) {
		v->fpu_in = NULL;
		xstate_copy(v->stage, img, bv & mask);
	} else { /* what is outside the mask stays */
		uint64_t old_bv;
		fpu_save(v);
		old_bv = xstate_bv(v->stage);
		__builtin_memcpy(&saved, v->stage + 24, 4);
		if (mask & 1) {
			__builtin_memcpy(v->stage, img, 24);
			__builtin_memcpy(v->stage + 32, img + 32, 128);
		}
		if (mask & 2)
			__builtin_memcpy(v->stage + 160, img + 160, 256);
		if (!(mask & 6))
			mxcsr = saved;
		xstate_components(v->stage, img, bv & mask);
		*(uint64_t *)(v->stage + XSTATE_HEADER) = (old_bv & ~mask) | (bv & mask);
	}
	__builtin_memcpy(v->stage + 24, &mxcsr, 4);
	return true;
}

void state_restore(struct vcpu *v, struct gregs *g, const struct insn *in)
{
	gva_t va = insn_ea(in, g), bad = va;
	bool fx = in->op == OP_FXRSTOR, user = state_in_user(in, va);
	uint64_t mask = fx ? 3 : pair(g) & v->xcr0;
	uint32_t size = fx ? 512 : xstate_size(v->xcr0), error = 0;
	const uint8_t *img = user ? NULL : k_linear(va, size);

	if (!img) {
		img = v->image;
		if (user ? !user_read(v, va, v->image, size, &bad, &error) : !k_read(va, v->image, size)) {
			g->rip = in->va;
			inject_pf(v, g, 0, bad, error);
			return;
		}
	}
	if (!take(v, img, mask, fx)) {
		g->rip = in->va;
		inject_gp(v, g, 0, 0);
		return;
	}
	g->rip = next_rip(in);
}
