/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * How a device speaks to the user. Failures to set a device up go into an `char err[DEVICE_ERR]` of the caller as one
 * line that says what failed, on what, and what to do. What happens later goes through device_report(), one line
 * without a newline; the machine may set device_report_to to its own log.
 */
#ifndef LOL_DEVICES_REPORT_H
#define LOL_DEVICES_REPORT_H

#define DEVICE_ERR 256

enum report_level {
	REPORT_VERBOSE, /* shown with --verbose only */
	REPORT_WARNING, /* always shown */
};

extern void (*device_report_to)(enum report_level level, const char *line); /* default: warnings to stderr */

void device_report(enum report_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void device_error(char err[DEVICE_ERR], const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
