/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What K takes from the text around a system call of a hostile program. Input: where the syscall is in its page, 2 bytes, then the
 * bytes from 128 before it on. Everything that is to move must lie in the page, and in one piece with the syscall.
 */
#include <stdlib.h>
#include <string.h>

#include "mmu/utext.h"

__thread struct vhot vh __attribute__((tls_model("local-exec")));

static void check(const uint8_t *page, unsigned off, const uint8_t *len, unsigned n)
{
	struct usite s = {.used = true};

	for (unsigned i = n; i-- > 0;)
		s.before = (uint8_t)(s.before + len[i]);
	if (s.before > off || !utext_behind(page, off, &s))
		return;
	unsigned size = s.before + 2u + s.after;
	if (size < UTEXT_WINDOW_MIN || off + 2u + s.after > PAGE_SIZE ||
	    s.before + (unsigned)s.after > UTRAMP_MOVED_MAX)
		abort();
	if (s.starts >> size || s.starts & ((1ull << (s.before + 2)) - 1)) /* only of instructions behind it */
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t len[UTEXT_BEFORE_MAX], *page;
	unsigned off, from, before = 0;

	if (size < 2 || !(page = calloc(1, PAGE_SIZE))) /* of its own, so that reading on is seen */
		return 0;
	off = (data[0] | (unsigned)data[1] << 8) % (PAGE_SIZE - 1);
	from = off > 128 ? off - 128 : 0;
	data += 2;
	size -= 2;
	memcpy(page + from, data, size < PAGE_SIZE - from ? size : PAGE_SIZE - from);
	page[off] = 0x0f;
	page[off + 1] = 0x05;
	unsigned n = utext_before(page, off, len);
	if (n > UTEXT_BEFORE_MAX)
		abort();
	check(page, off, len, 0);
	for (unsigned i = 0; i < n; i++) {
		before += len[i];
		if (!len[i] || len[i] > 15 || before > off)
			abort();
		check(page, off, len, i + 1);
	}
	free(page);
	return 0;
}
