/* SPDX-License-Identifier: BSD-2-Clause */
/* What the files of lolctl share. All return lolctl's exit status. */
#ifndef LOL_LOLCTL_H
#define LOL_LOLCTL_H

#include "error.h"

#include <jansson.h>
#include <stdbool.h>

/* One request on a connection, and its answer (a new reference); timeout_ms -1: wait. NULL: *err is "WHY; HINT". */
json_t *lolctl_ask(int fd, const json_t *request, int timeout_ms, struct lol_error *err);

int lolctl_ls(bool json);
int lolctl_watch(const char *name, const json_t *request, bool json);
int lolctl_console(const char *name, int fd); /* fd: in stream mode */

#endif
