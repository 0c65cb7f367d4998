/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Guest RAM as every process of a VM sees it: one memfd, two stretches of
 * guest-physical addresses with the hole for device registers between them.
 *
 *   gpa [0, low)                     = memfd offset [0, low)
 *   gpa [4 GiB, 4 GiB + size - low)  = memfd offset [low, size)
 *
 * low is at most RAM_LOW_MAX.
 *
 * Above all RAM there may be persistent memory: files of the host, each at a gpa of its own. Where an offset into the memfd
 * is asked for, such a page has its gpa: that is behind RAM and PATCH_AREA, and ram_file() tells the two apart. A view of all
 * of guest memory from `base` on has the files at these offsets too.
 */
#ifndef LOL_RAM_H
#define LOL_RAM_H

#include "types.h"

#define RAM_LOW_MAX 0xc0000000ull    /* 3 GiB: below are the RAM pages, above the registers of devices */
#define RAM_HIGH_BASE 0x100000000ull /* 4 GiB */

#define RAM_PMEM_MAX 4u
#define RAM_PMEM_ALIGN (1ull << 30) /* of the gpa */
#define RAM_PMEM_UNIT (2ull << 20)  /* a size is a multiple of it: Linux adds memory in such pieces */

struct ram_pmem {
	gpa_t gpa;
	uint64_t size; /* bytes */
	bool ro;
};

struct guest_ram {
	uint8_t *base; /* host address of the whole memfd, mapped once */
	uint64_t size; /* bytes, a multiple of the page size */
	uint64_t low;  /* bytes below the hole */
	int fd;        /* the memfd */
	unsigned npmem;
	struct ram_pmem pmem[RAM_PMEM_MAX];
};

/* Where persistent memory may start. */
static inline gpa_t ram_pmem_base(const struct guest_ram *ram)
{
	return ALIGN_UP(RAM_HIGH_BASE + ram->size - ram->low + 1, RAM_PMEM_ALIGN);
}

/* The file that has the page at an offset of ram_offset(): -1 for the memfd, else the number of the pmem; *offset in it. */
static inline int ram_file(const struct guest_ram *ram, uint64_t *offset)
{
	for (unsigned i = 0; i < ram->npmem; i++)
		if (*offset >= ram->pmem[i].gpa && *offset - ram->pmem[i].gpa < ram->pmem[i].size) {
			*offset -= ram->pmem[i].gpa;
			return (int)i;
		}
	return -1;
}

/* The end of all offsets. */
static inline uint64_t ram_span(const struct guest_ram *ram)
{
	return ram->npmem ? ram->pmem[ram->npmem - 1].gpa + ram->pmem[ram->npmem - 1].size : ram->size;
}

/* Is it a page that nobody may write, whatever the guest's tables say? */
static inline bool ram_ro(const struct guest_ram *ram, gpa_t gpa)
{
	for (unsigned i = 0; i < ram->npmem; i++)
		if (ram->pmem[i].ro && gpa >= ram->pmem[i].gpa && gpa - ram->pmem[i].gpa < ram->pmem[i].size)
			return true;
	return false;
}

/* ram_offset() of what is no RAM. */
static inline uint64_t ram_pmem_offset(const struct guest_ram *ram, gpa_t gpa, uint64_t len)
{
	for (unsigned i = 0; i < ram->npmem; i++) {
		const struct ram_pmem *p = &ram->pmem[i];
		if (gpa >= p->gpa && len <= p->size && gpa - p->gpa <= p->size - len)
			return gpa;
	}
	return UINT64_MAX;
}

/* memfd offset of gpa, or UINT64_MAX where there is no RAM for all of len bytes. gpa and len may be hostile. */
static inline uint64_t ram_offset(const struct guest_ram *ram, gpa_t gpa, uint64_t len)
{
	if (len > ram->size)
		return ram_pmem_offset(ram, gpa, len);
	if (gpa < ram->low)
		return gpa <= ram->low - MIN(len, ram->low) && len <= ram->low ? gpa : UINT64_MAX;
	if (gpa < RAM_HIGH_BASE)
		return UINT64_MAX;
	uint64_t off = gpa - RAM_HIGH_BASE, high = ram->size - ram->low;
	if (len > high || off > high - len)
		return ram_pmem_offset(ram, gpa, len);
	return ram->low + off;
}

/* Host pointer to len bytes of guest RAM at gpa, or NULL. */
static inline void *ram_ptr(const struct guest_ram *ram, gpa_t gpa, uint64_t len)
{
	uint64_t off = ram_offset(ram, gpa, len);
	return off == UINT64_MAX ? NULL : ram->base + off;
}

#endif
