/* SPDX-License-Identifier: BSD-2-Clause */
/* The afterburner on text that no compiler would write. */
#include "afterburn.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	char *copy = malloc(n ? n : 1); /* exactly as long as the text */
	struct ab_buf out = {0};
	struct ab_unit stats = {0};
	unsigned n_sites;

	if (!copy)
		return 0;
	memcpy(copy, data, n);
	if (ab_rewrite((struct ab_str){copy, n}, "x", &out, &stats, &n_sites) == 0 && n_sites && out.n <= n)
		abort();
	free(out.p);
	free(copy);
	return 0;
}
