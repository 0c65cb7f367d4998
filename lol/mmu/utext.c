/* SPDX-License-Identifier: BSD-2-Clause */
/* What stands around a system call in guest text, as far as it can move into a trampoline: see upatch.c. Pure functions. */
#include "mmu/utext.h"

#include "cpu/insn.h"

#define RUN_IN 128u
#define PHASES 8u
#define SETTLED 24u /* bytes */

/*
 * Lengths of the instructions that end at off, the nearest first; returns how many of them are known and can move. Nothing tells where
 * instructions begin but reading from somewhere before: inside of an instruction, x86 code falls into step within a few. So
 * it is begun at several bytes, and what all of them find is believed; but not behind zeros and other things that are no
 * code, out of which all may come in the same wrong step, and only of moves between registers, as data seldom look like them.
 */
static unsigned instructions_before(const uint8_t *page, unsigned off, uint8_t len[UTEXT_BEFORE_MAX])
{
	unsigned from = off > RUN_IN ? off - RUN_IN : 0, known = UTEXT_BEFORE_MAX;

	if (off < RUN_IN / 2)
		return 0;
	for (unsigned phase = 0; phase < PHASES && known; phase++) {
		unsigned start[UTEXT_BEFORE_MAX + 1] = {0}, at = from + phase, n = 0;
		while (at < off) {
			int64_t target;
			if (at >= from + PHASES + SETTLED && strange_code(page + at, PAGE_SIZE - at))
				return 0;
			for (unsigned i = UTEXT_BEFORE_MAX; i > 0; i--)
				start[i] = start[i - 1];
			start[0] = at;
			at += branch_length(page + at, PAGE_SIZE - at, &target);
		}
		if (at != off)
			return 0;
		for (unsigned end = off; n < known; n++) {
			unsigned length = end - start[n];
			if (phase == 0)
				len[n] =
					(uint8_t)(register_move_length(page + start[n], length) == length ? length : 0);
			if (!len[n] || len[n] != length)
				break;
			end = start[n];
		}
		known = n;
	}
	return known;
}

/* mov $nr, %eax before the syscall at off, in code read from the start of the page: the number makes sure enough. */
static bool number_before(const uint8_t *page, unsigned off)
{
	unsigned at = 0;

	if (off < 5 || page[off - 5] != 0xb8)
		return false;
	while (at < off - 5) {
		int64_t target;
		at += branch_length(page + at, PAGE_SIZE - at, &target);
	}
	return at == off - 5;
}

unsigned utext_before(const uint8_t *page, unsigned off, uint8_t len[UTEXT_BEFORE_MAX])
{
	unsigned n = instructions_before(page, off, len);

	if (!n && number_before(page, off)) {
		len[0] = 5;
		n = 1;
	}
	return n;
}

/* One byte of padding, or a NOP of several: its length, 0: neither. */
static unsigned padding(const uint8_t *p, unsigned left)
{
	unsigned n = 0;

	if (left && p[0] == 0xcc)
		return 1;
	while (n < left && (p[n] == 0x66 || p[n] == 0x2e))
		n++;
	if (n < left && p[n] == 0x90)
		return n + 1;
	return n + 2 < left && p[n] == 0x0f && p[n + 1] == 0x1f ? plain_length(p, left) : 0;
}

bool utext_behind(const uint8_t *page, unsigned off, struct usite *s)
{
	bool ended = false;

	while (s->before + 2u + s->after < UTEXT_WINDOW_MIN) {
		unsigned at = off + 2 + s->after, left = at < PAGE_SIZE ? PAGE_SIZE - at : 0, len;
		if (ended)
			len = padding(page + at, left);
		else if (left && page[at] == 0xc3) /* ret */
			ended = true, len = 1;
		else
			len = left ? plain_length(page + at, left) : 0;
		if (!len)
			return false;
		s->starts |= 1ull << (s->before + 2 + s->after);
		s->after = (uint8_t)(s->after + len);
	}
	return s->before + (unsigned)s->after <= UTRAMP_MOVED_MAX;
}
