/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Trampolines of rewritten system calls (upatch.c). A trampoline has up to 24 bytes of a program's text, so each U has a
 * window of its own, with those of the text that it has mapped and nothing else: no program reads another's there. The
 * addresses are the same in all, and so the table of them, which has no text, is one for all.
 */
#include "mmu/utramp.h"

#define LIT_STUB 56u
_Static_assert(UTRAMP_CALL + UTRAMP_MOVED_MAX + 7 <= LIT_STUB, "trampoline");

static uint8_t *windows;

void utramp_init(uint64_t *table, uint8_t *all)
{
	windows = all;
	for (unsigned n = 0; n < UTRAMPS; n++)
		table[n] = utramp_address(n);
}

static uint8_t *trampoline(unsigned slot, unsigned n)
{
	return windows + (size_t)slot * UTRAMP_WINDOW + (size_t)n * UTRAMP_SIZE;
}

static uint8_t *put(uint8_t *p, const void *bytes, unsigned n)
{
	__builtin_memcpy(p, bytes, n);
	return p + n;
}

/*
 *     ...                        the instructions from before the syscall
 *     mov  $number, %ecx
 *     jmp  *LIT_STUB(%rip)
 *     ...                        those from behind it
 *     jmp  *back                 through the slice
 */
void utramp_write(unsigned slot, unsigned n, const struct usite *s, const uint8_t *text)
{
	uint8_t *t = trampoline(slot, n), *p = t;
	uint64_t entry = USTUB_SYSCALL;
	uint32_t back = USHARE_LOW + US_BACK, number = n;
	int32_t rel;

	p = put(p, text, s->before);
	p = put(p, "\xb9", 1);
	p = put(p, &number, 4);
	rel = (int32_t)(t + LIT_STUB - (p + 6));
	p = put(p, "\xff\x25", 2);
	p = put(p, &rel, 4);
	if (s->after) {
		p = put(p, text + s->before + 2, s->after);
		p = put(p, "\xff\x24\x25", 3);
		put(p, &back, 4);
	}
	put(t + LIT_STUB, &entry, 8);
}

void utramp_erase(unsigned slot, unsigned n)
{
	__builtin_memset(trampoline(slot, n), 0, UTRAMP_SIZE);
}
