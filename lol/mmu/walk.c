/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The guest's page tables (SDM vol. 3, 4.5: 4-level paging).  Runs in K, any context.
 * Tables are guest memory: hostile, read once each level, every address checked.
 */
#include "cpu/k.h"

static inline bool walk(gpa_t root, gva_t va, struct walk *w, bool access)
{
	gpa_t table = root & PTE_ADDR;

	*w = (struct walk){.writable = true, .user = true};
	for (int shift = 39;; shift -= 9) {
		_Atomic uint64_t *slot = ram_ptr(&ram, table + ((va >> shift) & 511) * 8, 8);
		if (!slot)
			return false;
		uint64_t e = atomic_load_explicit(slot, memory_order_relaxed);
		w->up_writable = w->writable;
		w->up_user = w->user;
		w->up_nx = w->nx;
		if (shift == 12)
			w->pte = slot;
		if (!(e & PTE_P))
			return false;
		w->writable &= !!(e & PTE_W);
		w->user &= !!(e & PTE_U);
		w->nx |= !!(e & PTE_NX);
		if (shift == 12 || (shift <= 30 && (e & PTE_PS))) {
			uint64_t size = 1ull << shift;
			w->pte = slot;
			w->size = size;
			w->accessed = e & PTE_A;
			w->dirty = e & PTE_D;
			w->gpa = (e & PTE_ADDR & ~(size - 1)) | (va & (size - 1));
			return true;
		}
		if (access && !(e & PTE_A))
			atomic_fetch_or_explicit(slot, PTE_A, memory_order_relaxed);
		table = e & PTE_ADDR;
	}
}

bool pt_walk(gpa_t root, gva_t va, struct walk *w)
{
	return walk(root, va, w, true);
}

bool pt_look(gpa_t root, gva_t va, struct walk *w)
{
	return walk(root, va, w, false);
}

bool pt_set_ad(struct walk *w, bool write)
{
	uint64_t want = PTE_A | (write ? PTE_D : 0);
	uint64_t e = atomic_load_explicit(w->pte, memory_order_relaxed);

	if ((e & want) == want)
		return true;
	if (!(e & PTE_P) || (write && !(e & PTE_W)))
		return false;
	if (!atomic_compare_exchange_strong(w->pte, &e, e | want))
		return false;
	w->accessed = true;
	w->dirty |= write;
	return true;
}
