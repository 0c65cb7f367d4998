/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Guest memory as the guest sees it, for the debugger: virtual addresses of the kernel and of processes, through page tables
 * that are walked here, in the monitor, over guest RAM.  Tables are hostile: each entry is read once, every address is
 * checked, nothing is written to them.  Rewritten sites read as the instructions that stood there.
 *
 * Image addresses and those of modules are addresses of processes too (docs/ivmm-abi.md); `low` says who is meant.
 */
#ifndef LOL_GMEM_H
#define LOL_GMEM_H

#include "kctl.h"
#include "ram.h"

enum gmem_low { LOW_KERNEL, LOW_USER };

struct gmem_site {
	gva_t start;
	uint8_t region, off, len, kind;
	uint8_t code[15];
};

struct gmem {
	const struct guest_ram *ram;
	const struct kdebug *debug; /* in the control page: what K says */
	struct kboot boot;          /* our own copy */
	enum gmem_low low;
	struct gmem_site *sites; /* sorted by start, as far as K's words make sense */
	unsigned nsites, taken;  /* taken: of K's list */
};

void gmem_init(struct gmem *g, const struct guest_ram *ram, const struct kctl *ctl);
void gmem_fini(struct gmem *g);

/* A leaf of the tables at root. */
struct gmem_walk {
	gpa_t gpa;         /* of va itself */
	uint64_t size;     /* bytes that the leaf maps */
	uint64_t entry[4]; /* from the top, 0: not reached */
	unsigned levels;   /* entries read */
	bool present;
};
bool gmem_walk(const struct guest_ram *ram, gpa_t root, gva_t va, struct gmem_walk *w);

/* Where va is for code at cr3, and up to which address, exclusive, that stays linear. False: not mapped. */
bool gmem_translate(const struct gmem *g, gpa_t cr3, gva_t va, gpa_t *gpa, gva_t *end);
/* The kernel's table that maps va, 0: it is none of the kernel's. */
gpa_t gmem_kernel_root(const struct gmem *g, gva_t va);

/* All of [va, va + n), or false. */
bool gmem_read(struct gmem *g, gpa_t cr3, gva_t va, void *buf, size_t n);
bool gmem_write(struct gmem *g, gpa_t cr3, gva_t va, const void *buf, size_t n);
bool gmem_read_physical(const struct gmem *g, gpa_t gpa, void *buf, size_t n);
bool gmem_write_physical(const struct gmem *g, gpa_t gpa, const void *buf, size_t n);

/* The rewritten site whose region has va, NULL: none. */
const struct gmem_site *gmem_site(struct gmem *g, gva_t va);

#endif
