// SPDX-License-Identifier: BSD-2-Clause
/* Messages of lol-init. */
#include "lol-init.h"

#include <stdarg.h>
#include <string.h>
#include <unistd.h>

const char *number(unsigned long n)
{
	static char ring[4][24];
	static unsigned int turn;
	char *at = ring[turn++ % ARRAY_LEN(ring)] + sizeof(ring[0]) - 1;

	*at = '\0';
	do {
		*--at = (char)('0' + n % 10);
		n /= 10;
	} while (n);
	return at;
}

void say(int fd, const char *text, ...)
{
	char line[512] = "lol-init: ";
	size_t len = strlen(line);
	va_list more;

	va_start(more, text);
	for (const char *s = text; s; s = va_arg(more, const char *)) {
		size_t n = strlen(s), room = sizeof(line) - 1 - len;

		if (n > room)
			n = room;
		memcpy(line + len, s, n);
		len += n;
	}
	va_end(more);
	line[len++] = '\n';
	for (size_t done = 0; done < len;) {
		ssize_t n = write(fd, line + done, len - done);

		if (n <= 0)
			return;
		done += (size_t)n;
	}
}
