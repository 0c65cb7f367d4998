/* SPDX-License-Identifier: BSD-2-Clause */
/* INI files: config_file.h has the contract. */
#include "config_file.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SECTION_MAX 64

static char *trim(char *text)
{
	while (isspace((unsigned char)*text))
		text++;
	size_t len = strlen(text);
	while (len && isspace((unsigned char)text[len - 1]))
		text[--len] = 0;
	return text;
}

static char *unquote(char *value)
{
	size_t len = strlen(value);

	if (len < 2 || value[0] != '"' || value[len - 1] != '"')
		return value;
	value[len - 1] = 0;
	return value + 1;
}

/* One line without its end; changes section at a [section] line. */
static int config_line(char *line, char section[SECTION_MAX], config_entry_fn entry, void *arg, struct lol_error *err)
{
	char *text = trim(line);
	size_t len = strlen(text);

	if (!len || text[0] == '#' || text[0] == ';')
		return 0;
	if (text[0] == '[') {
		if (text[len - 1] != ']' || len - 2 >= SECTION_MAX)
			return lol_error(err, -EINVAL, "'%.80s' is not a section; write [lol-run]", text);
		text[len - 1] = 0;
		strcpy(section, trim(text + 1));
		return 0;
	}
	char *equals = strchr(text, '=');
	if (!equals || equals == text)
		return lol_error(err, -EINVAL, "'%.80s' is not a setting; write KEY = VALUE, or # before a comment",
				 text);
	*equals = 0;
	return entry(arg, section, trim(text), unquote(trim(equals + 1)), err);
}

int config_read(FILE *file, const char *name, config_entry_fn entry, void *arg, struct lol_error *err)
{
	char section[SECTION_MAX] = "";
	char *line = NULL;
	size_t size = 0;
	ssize_t len;
	unsigned number = 0;
	int ret = 0;

	while (!ret && (len = getline(&line, &size, file)) >= 0) {
		number++;
		if (len > CONFIG_LINE_MAX || memchr(line, 0, len))
			ret = lol_error(err, -EINVAL, "this is not a text line; is it the right file?");
		else
			ret = config_line(line, section, entry, arg, err);
		if (ret)
			lol_error_prefix(err, ret, "%.400s:%u", name, number);
	}
	if (!ret && ferror(file))
		ret = lol_error(err, errno ? -errno : -EIO, "%.400s: %s; make it readable or remove it", name,
				strerror(errno));
	free(line);
	return ret;
}
