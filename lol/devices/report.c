/* SPDX-License-Identifier: BSD-2-Clause */
#include "report.h"

#include <stdarg.h>
#include <stdio.h>

static void to_stderr(enum report_level level, const char *line)
{
	if (level >= REPORT_WARNING)
		fprintf(stderr, "lol-run: %s\n", line);
}

void (*device_report_to)(enum report_level level, const char *line) = to_stderr;

void device_report(enum report_level level, const char *fmt, ...)
{
	char line[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	device_report_to(level, line);
}

void device_error(char err[DEVICE_ERR], const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(err, DEVICE_ERR, fmt, ap);
	va_end(ap);
}
