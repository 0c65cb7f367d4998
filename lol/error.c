/* SPDX-License-Identifier: BSD-2-Clause */
/* Errors as one line: error.h has the contract. */
#include "error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

const char *lol_program = "lol-run";

/* A name with a line break or an escape sequence in it must neither make two lines nor reach the terminal. */
static void make_one_line(char *text)
{
	for (unsigned char *p = (unsigned char *)text; *p; p++)
		if (*p < 0x20 || *p == 0x7f)
			*p = '?';
}

static void format(char *text, size_t size, const char *fmt, va_list args)
{
	int len = vsnprintf(text, size, fmt, args);

	if (len < 0)
		snprintf(text, size, "error in an error message: %s", fmt);
	else if ((size_t)len >= size)
		strcpy(text + size - 4, "...");
	make_one_line(text);
}

int lol_error(struct lol_error *err, int code, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	format(err->text, sizeof(err->text), fmt, args);
	va_end(args);
	return code;
}

int lol_error_prefix(struct lol_error *err, int code, const char *fmt, ...)
{
	char prefix[LOL_ERROR_MAX / 2];
	struct lol_error old = *err;
	va_list args;

	va_start(args, fmt);
	format(prefix, sizeof(prefix), fmt, args);
	va_end(args);
	return lol_error(err, code, "%s: %s", prefix, old.text);
}

int lol_fail(int status, const char *fmt, ...)
{
	char line[32 + LOL_ERROR_MAX];
	va_list args;

	int n = snprintf(line, 32, "%s: ", lol_program);
	va_start(args, fmt);
	format(line + n, LOL_ERROR_MAX, fmt, args);
	va_end(args);

	size_t len = strlen(line);
	line[len++] = '\n';
	while (write(STDERR_FILENO, line, len) < 0 && errno == EINTR)
		;
	return status;
}
