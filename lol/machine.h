/* SPDX-License-Identifier: BSD-2-Clause */
/* A virtual machine put together from the options, run to its end. */
#ifndef LOL_MACHINE_H
#define LOL_MACHINE_H

#include "options.h"

/* Returns the exit status of lol-run (cli.md, enum lol_exit); errors are printed. */
int machine_run(const struct lol_options *opts);

#endif
