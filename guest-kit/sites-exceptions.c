/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The list of sensitive instructions that may go without a site, each with
 * its reason: lines of
 *
 *	GLOB INSTRUCTION REASON...
 *
 * GLOB is for the symbol or the section, INSTRUCTION a mnemonic, "(bad)" for
 * bytes that cannot be decoded, or "*".
 */
#include "sites.h"

#include <errno.h>
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>

struct exception {
	char *line; /* glob; the others point into it */
	const char *insn, *reason;
};

struct exceptions {
	struct exception *list;
	size_t n, cap;
};

static char *next_word(char **p)
{
	char *word = *p + strspn(*p, " \t");

	*p = word + strcspn(word, " \t");
	if (**p)
		*(*p)++ = 0;
	return word;
}

/* Takes line over. */
static const char *add(struct exceptions *e, char *line)
{
	struct exception *grown = sites_grow(e->list, &e->cap, e->n, sizeof *grown);
	char *p = line, *glob, *insn;

	if (!grown) {
		free(line);
		return "out of memory";
	}
	e->list = grown;
	glob = next_word(&p);
	insn = next_word(&p);
	p += strspn(p, " \t");
	e->list[e->n++] = (struct exception){line, insn, p};
	if (!*insn || !*p)
		return "an exception needs a glob, an instruction and a reason";
	memmove(line, glob, strlen(glob) + 1);
	return NULL;
}

static const char *read_lines(struct exceptions *e, FILE *f, unsigned *number)
{
	char *line = NULL;
	size_t cap = 0;
	const char *error = NULL;

	while (!error && getline(&line, &cap, f) >= 0) {
		++*number;
		line[strcspn(line, "\n")] = 0;
		if (!line[strspn(line, " \t")] || line[strspn(line, " \t")] == '#')
			continue;
		error = add(e, line);
		line = NULL;
		cap = 0;
	}
	free(line);
	return error ? error : ferror(f) ? "read error" : NULL;
}

struct exceptions *exceptions_read(const char *path, unsigned *line, const char **error)
{
	struct exceptions *e = calloc(1, sizeof *e);
	FILE *f = fopen(path, "re");

	*line = 0;
	*error = !e ? "out of memory" : !f ? strerror(errno) : read_lines(e, f, line);
	if (f)
		fclose(f);
	if (*error && e) {
		exceptions_free(e);
		e = NULL;
	}
	return e;
}

const char *exceptions_match(struct exceptions *list, const char *symbol, const char *section, const char *insn)
{
	for (size_t i = 0; list && i < list->n; i++) {
		const struct exception *x = &list->list[i];

		if ((!strcmp(x->insn, "*") || !strcmp(x->insn, insn)) &&
		    (!fnmatch(x->line, symbol, 0) || !fnmatch(x->line, section, 0)))
			return x->reason;
	}
	return NULL;
}

void exceptions_free(struct exceptions *list)
{
	for (size_t i = 0; list && i < list->n; i++)
		free(list->list[i].line);
	if (list)
		free(list->list);
	free(list);
}
