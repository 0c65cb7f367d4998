/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The low window of a U: the table that rewritten system calls jump through, and the trampolines behind it. Runs in K.
 * The caller has upatch.c's lock.
 */
#ifndef LOL_UTRAMP_H
#define LOL_UTRAMP_H

#include "mmu/uproc.h"

#define UTRAMPS 4096u   /* entries of the table; number n leads to trampoline n */
#define UTRAMP_SIZE 64u /* bytes */
#define UTRAMP_WINDOW (UTRAMPS * UTRAMP_SIZE)
#define UTRAMP_MOVED_MAX 38u /* bytes of instructions that move into a trampoline */
#define UTRAMP_CALL \
	11u /* bytes of what stands there in place of the syscall, between those from before and from behind it */

/* A rewritten system call, see upatch.c. */
struct usite {
	uint16_t copy, off;    /* of the window in the page */
	uint16_t next;         /* of the same copy */
	uint8_t before, after; /* bytes around the syscall that stand in the trampoline */
	uint64_t starts;       /* bit n: an instruction began at byte n of the window, 0 not counted */
	bool used;
};

/* The table, the same for all U's, and the trampolines of all slots, as K has them mapped. */
void utramp_init(uint64_t *table, uint8_t *windows);

/* Trampoline n of the U in this slot: for the site s, whose text is `text`; or nothing. */
void utramp_write(unsigned slot, unsigned n, const struct usite *s, const uint8_t *text);
void utramp_erase(unsigned slot, unsigned n);

/* Its address in a U. */
static inline gva_t utramp_address(unsigned n)
{
	return UPATCH_BASE + PATCH_TABLE_SIZE + n * UTRAMP_SIZE;
}

#endif
