/* SPDX-License-Identifier: BSD-2-Clause */
/* A line as options_print_command() writes it, taken apart as a shell would. */
#ifndef TESTS_WORDS_H
#define TESTS_WORDS_H

#include <stddef.h>

/* Splits line in place into at most max - 1 words, NULL-terminated; returns their number. Knows '...' and \'. */
static inline int split_words(char *line, char **words, int max)
{
	char *from = line, *to = line;
	int n = 0;

	for (;;) {
		while (*from == ' ')
			from++;
		if (!*from || *from == '\n' || n == max - 1)
			break;
		words[n++] = to;
		while (*from && *from != ' ' && *from != '\n') {
			if (*from == '\\' && from[1]) {
				*to++ = from[1];
				from += 2;
			} else if (*from == '\'') {
				for (from++; *from && *from != '\'';)
					*to++ = *from++;
				from += *from == '\'';
			} else {
				*to++ = *from++;
			}
		}
		int more = *from != 0;
		*to++ = 0;
		from += more;
	}
	words[n] = NULL;
	return n;
}

#endif
