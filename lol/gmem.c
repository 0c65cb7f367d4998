/* SPDX-License-Identifier: BSD-2-Clause */
#include "gmem.h"

#include <stdlib.h>
#include <string.h>

#define PTE_P 1ull
#define PTE_PS 0x80ull
#define PTE_ADDR 0x000ffffffffff000ull
#define LINK_BASE 0xffffffff80000000ull /* where the image is linked; symbols that nobody has moved point there */

void gmem_init(struct gmem *g, const struct guest_ram *ram, const struct kctl *ctl)
{
	*g = (struct gmem){.ram = ram, .debug = &ctl->debug, .boot = ctl->boot};
}

void gmem_fini(struct gmem *g)
{
	free(g->sites);
	g->sites = NULL;
	g->nsites = g->taken = 0;
}

bool gmem_walk(const struct guest_ram *ram, gpa_t root, gva_t va, struct gmem_walk *w)
{
	gpa_t table = root & PTE_ADDR;

	*w = (struct gmem_walk){0};
	for (int shift = 39;; shift -= 9) {
		const _Atomic uint64_t *slot = ram_ptr(ram, table + ((va >> shift) & 511) * 8, 8);
		if (!slot)
			return false;
		uint64_t e = atomic_load_explicit(slot, memory_order_relaxed);
		w->entry[w->levels++] = e;
		if (!(e & PTE_P))
			return false;
		if (shift == 12 || (shift <= 30 && (e & PTE_PS))) {
			w->size = 1ull << shift;
			w->gpa = (e & PTE_ADDR & ~(w->size - 1)) | (va & (w->size - 1));
			w->present = true;
			return true;
		}
		table = e & PTE_ADDR;
	}
}

static bool linear(gva_t va, gva_t start, gva_t stop, gva_t base, gpa_t *gpa, gva_t *end)
{
	if (va < start || va >= stop)
		return false;
	*gpa = va - base;
	*end = stop;
	return true;
}

/* The kernel half, whatever is in CR3. Before the kernel has its own table, the early one serves. */
static bool kernel_address(const struct gmem *g, gva_t va, gpa_t *gpa, gva_t *end)
{
	struct gmem_walk w;
	gva_t image = ALIGN_DOWN(g->boot.text_start, PAGE_SIZE), image_end = ALIGN_UP(g->boot.image_end, PAGE_SIZE);

	if (linear(va, image, image_end, 0, gpa, end) || linear(va, K_DIRECT_MAP, K_VMALLOC, K_DIRECT_MAP, gpa, end))
		return true;
	if (!(va >= K_MODULES && va < K_LOW_END) && !(va >= K_VMALLOC && va < K_KERNEL_END))
		return false;
	if (!gmem_walk(g->ram, g->boot.init_top_pgt, va, &w) && !gmem_walk(g->ram, g->boot.early_top_pgt, va, &w))
		return false;
	*gpa = w.gpa;
	*end = (va | (w.size - 1)) + 1;
	return true;
}

gpa_t gmem_kernel_root(const struct gmem *g, gva_t va)
{
	struct gmem_walk w;

	if (!(va >= K_IMAGE_MIN && va < K_LOW_END && g->low == LOW_KERNEL) && !(va >= K_USER_END && va < K_KERNEL_END))
		return 0;
	return gmem_walk(g->ram, g->boot.init_top_pgt, va, &w) ? g->boot.init_top_pgt : g->boot.early_top_pgt;
}

bool gmem_translate(const struct gmem *g, gpa_t cr3, gva_t va, gpa_t *gpa, gva_t *end)
{
	struct gmem_walk w;

	if (va >= LINK_BASE && kernel_address(g, va - LINK_BASE, gpa, end)) {
		*end += LINK_BASE;
		return true;
	}
	if ((va >= K_USER_END || g->low == LOW_KERNEL) && kernel_address(g, va, gpa, end))
		return true;
	if (va >= K_USER_END || !gmem_walk(g->ram, cr3, va, &w))
		return false;
	*gpa = w.gpa;
	*end = (va | (w.size - 1)) + 1;
	return true;
}

/* ---- sites ---- */

static int by_start(const void *a, const void *b)
{
	gva_t x = ((const struct gmem_site *)a)->start, y = ((const struct gmem_site *)b)->start;
	return x < y ? -1 : x > y;
}

static void take_sites(struct gmem *g)
{
	unsigned n = g->debug->nsites;

	n = MIN(n, KSITES_MAX);
	if (n == g->taken)
		return;
	free(g->sites);
	g->nsites = 0;
	g->taken = n;
	g->sites = calloc(n ? n : 1, sizeof(*g->sites));
	for (unsigned i = 0; g->sites && i < n; i++) {
		struct ksite k = g->debug->sites[i];
		if (k.start < K_IMAGE_MIN || k.start >= K_LOW_END || k.region > 64 || k.len > sizeof(k.code) ||
		    k.off + k.len > k.region)
			continue;
		struct gmem_site *s = &g->sites[g->nsites++];
		*s = (struct gmem_site){k.start, k.region, k.off, k.len, k.kind, {0}};
		memcpy(s->code, k.code, sizeof(s->code));
	}
	if (g->sites)
		qsort(g->sites, g->nsites, sizeof(*g->sites), by_start);
}

/* The first site that ends behind va. */
static unsigned first_site(const struct gmem *g, gva_t va)
{
	unsigned low = 0, high = g->nsites;

	while (low < high) {
		unsigned mid = (low + high) / 2;
		if (g->sites[mid].start + g->sites[mid].region <= va)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

const struct gmem_site *gmem_site(struct gmem *g, gva_t va)
{
	take_sites(g);
	unsigned i = first_site(g, va);
	return i < g->nsites && g->sites[i].start <= va ? &g->sites[i] : NULL;
}

/* Is it still K's rewriting that stands at the site? The guest may have put something else there since. */
static bool rewritten(const struct gmem *g, const struct gmem_site *s)
{
	gpa_t gpa;
	gva_t end;
	uint8_t b[8];
	int32_t rel;

	if (!kernel_address(g, s->start, &gpa, &end) || !gmem_read_physical(g, gpa, b, sizeof(b)))
		return false;
	if ((b[0] == 0x64 || b[0] == 0xcc) && ((b[1] == 0xc6 && b[2] == 0x05) || (b[1] == 0xff && b[2] == 0x35)))
		return true;
	memcpy(&rel, b + 1, 4);
	gva_t target = s->start + 5 + (uint64_t)(int64_t)rel;
	return (b[0] == 0xe9 || b[0] == 0xe8 || b[0] == 0xcc) && target >= K_LOW_END && target < LINK_BASE;
}

/* What the guest's own text has at each byte of [va, va + n) that belongs to a site. */
static void show_sites(struct gmem *g, gva_t va, uint8_t *buf, size_t n)
{
	take_sites(g);
	for (unsigned i = first_site(g, va); i < g->nsites && g->sites[i].start < va + n; i++) {
		const struct gmem_site *s = &g->sites[i];
		if (!rewritten(g, s))
			continue;
		for (unsigned k = 0; k < s->region; k++) {
			uint64_t at = s->start + k - va; /* wraps in front of va */
			if (at < n)
				buf[at] = k >= s->off && k < s->off + (unsigned)s->len ? s->code[k - s->off] : 0x90;
		}
	}
}

/* ---- reading and writing ---- */

bool gmem_read_physical(const struct gmem *g, gpa_t gpa, void *buf, size_t n)
{
	const void *p = ram_ptr(g->ram, gpa, n);

	if (!p)
		return false;
	memcpy(buf, p, n);
	return true;
}

bool gmem_write_physical(const struct gmem *g, gpa_t gpa, const void *buf, size_t n)
{
	void *p = ram_ptr(g->ram, gpa, n);

	if (!p)
		return false;
	memcpy(p, buf, n);
	return true;
}

bool gmem_read(struct gmem *g, gpa_t cr3, gva_t va, void *buf, size_t n)
{
	uint8_t *to = buf;
	gva_t start = va >= LINK_BASE ? va - LINK_BASE : va;

	for (size_t left = n; left;) {
		gpa_t gpa;
		gva_t end;
		if (!gmem_translate(g, cr3, va, &gpa, &end))
			return false;
		size_t m = MIN(left, end - va);
		if (!gmem_read_physical(g, gpa, to, m))
			return false;
		to += m;
		va += m;
		left -= m;
	}
	if (start < K_LOW_END && start + n > K_IMAGE_MIN && g->low == LOW_KERNEL)
		show_sites(g, start, buf, n);
	return true;
}

bool gmem_write(struct gmem *g, gpa_t cr3, gva_t va, const void *buf, size_t n)
{
	const uint8_t *from = buf;
	gpa_t gpa;
	gva_t end;

	/* All or nothing. */
	for (gva_t at = va; at - va < n; at = end)
		if (!gmem_translate(g, cr3, at, &gpa, &end) || !ram_ptr(g->ram, gpa, 1))
			return false;
	while (n) {
		if (!gmem_translate(g, cr3, va, &gpa, &end))
			return false;
		size_t m = MIN(n, end - va);
		if (!gmem_write_physical(g, gpa, from, m))
			return false;
		from += m;
		va += m;
		n -= m;
	}
	return true;
}
