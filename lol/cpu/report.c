/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The end of K, for whatever reason, and what it has to say about it.  No libc: this runs
 * when nothing else may be trusted any more, in any context.
 */
#include <linux/futex.h>
#include <stdarg.h>
#include <sys/syscall.h>

#include "cpu/k.h"

K_ALLOW(exit_group);
K_ALLOW(write, SCMP_A0(SCMP_CMP_EQ, 2));
K_ALLOW(write, SCMP_A0(SCMP_CMP_EQ, FD_DOORBELL));

static size_t put_number(char *out, size_t room, uint64_t n, unsigned base, unsigned width)
{
	char tmp[24];
	size_t len = 0, i;

	do {
		tmp[len++] = "0123456789abcdef"[n % base];
		n /= base;
	} while (n);
	while (len < width && len < sizeof(tmp))
		tmp[len++] = '0';
	for (i = 0; i < len && i < room; i++)
		out[i] = tmp[len - 1 - i];
	return i;
}

/* %s %c %d %u %x %lx %lu %02x, always terminated. */
int k_format(char *out, size_t size, const char *fmt, va_list ap)
{
	size_t n = 0;

	for (; *fmt && n + 1 < size; fmt++) {
		if (*fmt != '%') {
			out[n++] = *fmt;
			continue;
		}
		unsigned width = 0;
		bool wide = false;
		for (fmt++; *fmt == '0' || (*fmt >= '1' && *fmt <= '9'); fmt++)
			width = width * 10 + (unsigned)(*fmt - '0');
		for (; *fmt == 'l'; fmt++)
			wide = true;
		size_t room = size - 1 - n;
		if (*fmt == 's') {
			for (const char *s = va_arg(ap, const char *); *s && room; room--)
				out[n++] = *s++;
		} else if (*fmt == 'd') {
			int64_t v = wide ? va_arg(ap, int64_t) : va_arg(ap, int);
			if (v < 0 && room) {
				out[n++] = '-';
				room--;
			}
			n += put_number(out + n, room, (uint64_t)(v < 0 ? -v : v), 10, width);
		} else if (*fmt == 'u' || *fmt == 'x') {
			uint64_t v = wide ? va_arg(ap, uint64_t) : va_arg(ap, unsigned);
			n += put_number(out + n, room, v, *fmt == 'x' ? 16 : 10, width);
		} else if (*fmt == 'c') {
			out[n++] = (char)va_arg(ap, int);
		} else if (!*fmt) {
			break;
		}
	}
	out[n] = 0;
	return (int)n;
}

void k_log(const char *fmt, ...)
{
	char line[512];
	va_list ap;

	va_start(ap, fmt);
	int n = k_format(line, sizeof(line) - 1, fmt, ap);
	va_end(ap);
	line[n++] = '\n';
	sys3(SYS_write, 2, line, n);
}

_Noreturn void k_stop(enum kstop why, const char *fmt, ...)
{
	va_list ap;
	uint64_t one = 1;

	va_start(ap, fmt);
	k_format(kctl->report, sizeof(kctl->report), fmt, ap);
	va_end(ap);
	atomic_store(&kctl->stop, (uint32_t)why);
	sys3(SYS_write, FD_DOORBELL, &one, 8);
	for (;;)
		sys3(SYS_exit_group, why == KSTOP_BUG ? 127 : 0, 0, 0);
}
