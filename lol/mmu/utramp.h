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
#define UTRAMP_MOVED_MAX 24u /* bytes of instructions that move from behind a syscall into its trampoline */
#define UTRAMP_AFTER 11u     /* where they begin there */
#define UTRAMP_BEFORE 5u     /* where the instruction behind the one moved from before a syscall begins */

enum usite_form { USITE_AFTER, USITE_BEFORE };

/* A rewritten system call, see upatch.c. */
struct usite {
	uint16_t copy, off; /* of the window in the page */
	uint16_t next;      /* of the same copy */
	uint8_t form;
	uint8_t moved;   /* USITE_AFTER: bytes behind the syscall that stand in the trampoline */
	uint32_t starts; /* bit n: an instruction began at byte n of the window */
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
