/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The page-table walker on hostile tables. The input is words of guest memory (index, value) behind a byte for their count, then
 * addresses to walk; tables are close together, so that the fuzzer builds whole ones. Each result is checked
 * against a second, plain walk.
 */
#include <stdlib.h>
#include <string.h>

#include "cpu/k.h"

#define RAM_BYTES (64u << 10)
#define LOW_BYTES (48u << 10)

struct guest_ram ram;

static uint64_t word(const uint8_t **p, const uint8_t *end, unsigned bytes)
{
	uint64_t v = 0;
	for (unsigned i = 0; i < bytes && *p < end; i++)
		v |= (uint64_t) * (*p)++ << (8 * i);
	return v;
}

/* As in the manual, level by level. False: not present, or outside of memory. */
static bool plain_walk(gpa_t root, gva_t va, gpa_t *gpa, bool rights[3])
{
	gpa_t table = root & PTE_ADDR;

	rights[0] = rights[1] = true;
	rights[2] = false;
	for (int level = 4; level >= 1; level--) {
		int shift = 12 + 9 * (level - 1);
		uint8_t *at = ram_ptr(&ram, table + (va >> shift & 511) * 8, 8);
		uint64_t e;
		if (!at)
			return false;
		memcpy(&e, at, 8);
		if (!(e & PTE_P))
			return false;
		rights[0] = rights[0] && e & PTE_W;
		rights[1] = rights[1] && e & PTE_U;
		rights[2] = rights[2] || e & PTE_NX;
		if (level == 1 || (level < 4 && e & PTE_PS)) {
			uint64_t mask = (1ull << shift) - 1;
			*gpa = (e & PTE_ADDR & ~mask) | (va & mask);
			return true;
		}
		table = e & PTE_ADDR;
	}
	return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *p = data, *end = data + size;

	if (!ram.base)
		ram = (struct guest_ram){
			.base = aligned_alloc(4096, RAM_BYTES), .size = RAM_BYTES, .low = LOW_BYTES, .fd = -1};
	if (!ram.base)
		abort();
	memset(ram.base, 0, RAM_BYTES);
	for (uint64_t n = word(&p, end, 1); n && p < end; n--) {
		uint64_t index = word(&p, end, 2) % (RAM_BYTES / 8), flags = word(&p, end, 1), value;
		if (flags & 0x80) /* any bits; else an entry that leads to a page of this memory, low or high */
			value = word(&p, end, 8);
		else
			value = word(&p, end, 1) % 12 * 4096 | (flags & 8 ? 1ull << 32 : 0) | (flags & 7) |
				(flags & 0x10 ? PTE_PS : 0) | (flags & 0x20 ? PTE_NX : 0) | (flags & 0x40 ? PTE_A : 0);
		memcpy(ram.base + index * 8, &value, 8);
	}
	gpa_t root = word(&p, end, 1) & 0x80 ? word(&p, end, 8) : 0;
	while (p < end) {
		uint64_t how = word(&p, end, 1);
		/* small indices at each level, or any address */
		gva_t va = how & 0x80
				   ? word(&p, end, 8)
				   : (how & 3) << 39 | (how >> 2 & 3) << 30 | (how >> 4 & 3) << 21 | word(&p, end, 2);
		struct walk w;
		gpa_t gpa;
		bool rights[3], there = plain_walk(root, va, &gpa, rights);
		static uint8_t copy[RAM_BYTES];
		memcpy(copy, ram.base, RAM_BYTES);
		if (pt_look(root, va, &w) != there || (there && w.gpa != gpa) || memcmp(copy, ram.base, RAM_BYTES))
			abort();
		if (pt_walk(root, va, &w) != there)
			abort();
		if (!there)
			continue;
		if (w.gpa != gpa || w.writable != rights[0] || w.user != rights[1] || w.nx != rights[2])
			abort();
		if ((uint8_t *)w.pte < ram.base || (uint8_t *)w.pte > ram.base + RAM_BYTES - 8)
			abort();
		uint64_t before = *w.pte, want = PTE_A | (how & 0x40 ? PTE_D : 0);
		bool may = (before & want) == want || !(how & 0x40) || before & PTE_W;
		if (pt_set_ad(&w, how & 0x40) != may || (may && *w.pte != (before | want)) ||
		    (!may && *w.pte != before))
			abort();
	}
	return 0;
}
