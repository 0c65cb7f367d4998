/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A locked instruction takes 5 ns longer than another one, and a page fault has dozens of them. Linux replaces their prefixes itself
 * when it finds one CPU, by its section .smp_locks, but does not know of the sites that K has rewritten by then; so it is told not
 * to (noreplace-smp), and they are replaced here. What the monitor shares with the kernel goes by plain accesses and fences, which
 * are not in that section; user code of the guest does not run while its only vCPU is in the kernel.
 */
#include "lock_prefixes.h"

#include <stdlib.h>
#include <string.h>

#include "ivmm-sites.h"

#define LOCK 0xf0
#define NO_LOCK 0x3e /* DS, which 64-bit mode ignores (SDM vol. 2, "Instruction Prefixes"); Linux takes it, too */

struct region {
	gpa_t start, end;
};

static int by_start(const void *a, const void *b)
{
	const struct region *x = a, *y = b;

	return (x->start > y->start) - (x->start < y->start);
}

static int holds(const void *key, const void *region)
{
	gpa_t at = *(const gpa_t *)key;
	const struct region *r = region;

	return at < r->start ? -1 : at >= r->end;
}

/* Sorted by address; NULL: no memory, or none (then n is 0). */
static struct region *site_regions(const struct guest_ram *ram, gpa_t sites, gpa_t sites_end, size_t *n)
{
	const uint8_t *table = ram_ptr(ram, sites, sites_end - sites);
	struct region *regions;
	struct ivmm_site s;

	*n = table ? (sites_end - sites) / sizeof(s) : 0;
	if (!*n || !(regions = calloc(*n, sizeof(*regions))))
		return NULL;
	for (size_t i = 0; i < *n; i++) {
		memcpy(&s, table + i * sizeof(s), sizeof(s));
		gpa_t start = sites + i * sizeof(s) + (gpa_t)(int64_t)s.start;
		regions[i] = (struct region){start, start + s.region_len};
	}
	qsort(regions, *n, sizeof(*regions), by_start);
	return regions;
}

bool lock_prefixes_drop(const struct guest_ram *ram, gpa_t first, gpa_t end, gpa_t sites, gpa_t sites_end)
{
	const int32_t *entry = first % sizeof(*entry) || end < first ? NULL : ram_ptr(ram, first, end - first);
	size_t n, entries = entry ? (end - first) / sizeof(*entry) : 0;
	struct region *regions;

	if (!entries)
		return true;
	if (!(regions = site_regions(ram, sites, sites_end, &n)) && n)
		return false;
	for (size_t i = 0; i < entries; i++) {
		gpa_t at = first + i * sizeof(*entry) + (gpa_t)(int64_t)entry[i];
		uint8_t *p = ram_ptr(ram, at, 1);
		if (p && *p == LOCK && !(n && bsearch(&at, regions, n, sizeof(*regions), holds)))
			*p = NO_LOCK;
	}
	free(regions);
	return true;
}
