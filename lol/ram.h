/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Guest RAM as every process of a VM sees it: one memfd, two stretches of
 * guest-physical addresses with the hole for device registers between them.
 *
 *   gpa [0, low)                     = memfd offset [0, low)
 *   gpa [4 GiB, 4 GiB + size - low)  = memfd offset [low, size)
 *
 * low is at most RAM_LOW_MAX.
 */
#ifndef LOL_RAM_H
#define LOL_RAM_H

#include "types.h"

#define RAM_LOW_MAX 0xc0000000ull   /* 3 GiB: below are the RAM pages, above the registers of devices */
#define RAM_HIGH_BASE 0x100000000ull /* 4 GiB */

struct guest_ram {
	uint8_t *base; /* host address of the whole memfd, mapped once */
	uint64_t size; /* bytes, a multiple of the page size */
	uint64_t low;  /* bytes below the hole */
	int fd;        /* the memfd */
};

/* memfd offset of gpa, or UINT64_MAX where there is no RAM for all of len bytes. gpa and len may be hostile. */
static inline uint64_t ram_offset(const struct guest_ram *ram, gpa_t gpa, uint64_t len)
{
	if (len > ram->size)
		return UINT64_MAX;
	if (gpa < ram->low)
		return gpa <= ram->low - MIN(len, ram->low) && len <= ram->low ? gpa : UINT64_MAX;
	if (gpa < RAM_HIGH_BASE)
		return UINT64_MAX;
	uint64_t off = gpa - RAM_HIGH_BASE, high = ram->size - ram->low;
	if (len > high || off > high - len)
		return UINT64_MAX;
	return ram->low + off;
}

/* Host pointer to len bytes of guest RAM at gpa, or NULL. */
static inline void *ram_ptr(const struct guest_ram *ram, gpa_t gpa, uint64_t len)
{
	uint64_t off = ram_offset(ram, gpa, len);
	return off == UINT64_MAX ? NULL : ram->base + off;
}

#endif
