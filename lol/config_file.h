/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A reader of INI files: sections in brackets, "key = value" lines, comments from # or ; at the beginning of a line.
 * Spaces around key and value are dropped; a value in double quotes keeps those within. It knows no key by itself.
 */
#ifndef LOL_CONFIG_FILE_H
#define LOL_CONFIG_FILE_H

#include "error.h"

#include <stdio.h>

#define CONFIG_LINE_MAX 65536 /* bytes */

/* Called for each setting; section is "" before the first one. 0, or a negative errno with *err filled, which ends it. */
typedef int (*config_entry_fn)(void *arg, const char *section, const char *key, const char *value,
			       struct lol_error *err);

/*
 * Read a whole file. An error names file and line: "NAME:LINE: ...". -EINVAL for a line that is none of the above, what
 * the callback returned, or the error of reading.
 */
int config_read(FILE *file, const char *name, config_entry_fn entry, void *arg, struct lol_error *err);

#endif
