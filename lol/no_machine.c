/* SPDX-License-Identifier: BSD-2-Clause */
/* Stands in for lol/machine.c until that exists. */
#include "error.h"
#include "options.h"

int machine_run(const struct lol_options *opts);

__attribute__((weak)) int machine_run(const struct lol_options *opts)
{
	(void)opts;
	return lol_fail(LOL_EXIT_BUG, "no machine built in");
}
