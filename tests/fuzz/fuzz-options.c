/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Any command line and any configuration file: no crash, no leak, one line of error at most, and what --dry-run prints
 * of accepted options means the same again. Input: a byte that says which, then lines (one word each) or the file.
 */
#include "../lib/words.h"
#include "options.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define WORDS_MAX 64

static void check(bool ok)
{
	if (!ok)
		abort();
}

static char *printed(const struct lol_options *opts)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	options_print_command(out, opts);
	fclose(out);
	return text;
}

/* The value of 0 or -ENOTSUP means that all is understood and complete. */
static bool is_complete(struct lol_options *opts)
{
	struct lol_error err;
	int ret = options_finish(opts, &err);

	return !ret || ret == -ENOTSUP;
}

static void check_round_trip(const struct lol_options *opts)
{
	struct lol_options again;
	struct lol_error err;
	char *words[2 * WORDS_MAX + 64];
	char *first = printed(opts), *line = strdup(first);
	int n = split_words(line, words, ARRAY_LEN(words));

	check(options_parse(&again, n, words, &err) == 0);
	check(is_complete(&again));
	char *second = printed(&again);
	check(strcmp(first, second) == 0);
	options_free(&again);
	free(first);
	free(second);
	free(line);
}

static int try_command_line(struct lol_options *opts, char *text, struct lol_error *err)
{
	char *words[WORDS_MAX + 1] = {"lol-run"}, *save = NULL;
	int n = 1;

	for (char *word = strtok_r(text, "\n", &save); word && n < WORDS_MAX; word = strtok_r(NULL, "\n", &save))
		words[n++] = word;
	int ret = options_parse(opts, n, words, err);
	if (!ret && (opts->action == LOL_RUN || opts->action == LOL_DRY_RUN) && is_complete(opts))
		check_round_trip(opts);
	opts->command = NULL;
	return ret;
}

static int try_config(struct lol_options *opts, char *text, size_t size, struct lol_error *err)
{
	FILE *file = size ? fmemopen(text, size, "r") : NULL;
	int ret = options_parse(opts, 1, (char *[]){"lol-run", NULL}, err);

	if (file) {
		ret = options_read_config(opts, file, "lol.conf", err);
		fclose(file);
	}
	if (!ret && is_complete(opts))
		check_round_trip(opts);
	return ret;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct lol_options opts;
	struct lol_error err = {""};

	if (!size)
		return 0;
	setenv("HOME", "/home/fuzz", 1);
	char *text = strndup((const char *)data + 1, size - 1);
	int ret = data[0] & 1 ? try_command_line(&opts, text, &err) : try_config(&opts, text, strlen(text), &err);
	if (ret)
		check(err.text[0] && !strchr(err.text, '\n') && strlen(err.text) < LOL_ERROR_MAX);
	options_free(&opts);
	free(text);
	return 0;
}
