/* SPDX-License-Identifier: BSD-2-Clause */
/* What stands around a system call in guest text. A page is PAGE_SIZE bytes, of anything; off is where the syscall begins in it. */
#ifndef LOL_UTEXT_H
#define LOL_UTEXT_H

#include "mmu/utramp.h"

#define UTEXT_BEFORE_MAX 4u /* instructions */
#define UTEXT_WINDOW_MIN 7u /* bytes: the jump that takes the window's place */

/* Lengths of the instructions before the syscall that are known and can move, the nearest first: how many, and they are in the page. */
unsigned utext_before(const uint8_t *page, unsigned off, uint8_t len[UTEXT_BEFORE_MAX]);
/*
 * s has the bytes before the syscall: take so many instructions behind it that the window is large enough. False: they cannot
 * move, or the page ends.
 */
bool utext_behind(const uint8_t *page, unsigned off, struct usite *s);

#endif
