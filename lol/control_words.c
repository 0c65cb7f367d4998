/* SPDX-License-Identifier: BSD-2-Clause */
#include "control_words.h"

#include "options.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What may follow a verb. */
enum { NOTHING, FORCE, KEY, MAYBE_SIZE, PATH, DISK };
static const struct verb {
	const char *name;
	int takes;
	const char *usage;
	unsigned least, most; /* words that follow */
} verbs[] = {
	{"status", NOTHING, "status", 0, 0},
	{"pause", NOTHING, "pause", 0, 0},
	{"resume", NOTHING, "resume", 0, 0},
	{"stop", FORCE, "stop [--force]", 0, 1},
	{"quit", NOTHING, "quit", 0, 0},
	{"console", NOTHING, "console", 0, 0},
	{"stats", NOTHING, "stats", 0, 0},
	{"sysrq", KEY, "sysrq KEY", 1, 1},
	{"balloon", MAYBE_SIZE, "balloon [SIZE]", 0, 1},
	{"dump", PATH, "dump FILE", 1, 1},
	{"disks", NOTHING, "disks", 0, 0},
	{"resize", DISK, "resize DISK SIZE [--shrink]", 2, 3},
};

/* The argument after n others. */
static int add_argument(json_t *request, const struct verb *verb, unsigned n, const char *word, struct lol_error *err)
{
	uint64_t size;

	switch (verb->takes) {
	case FORCE:
		if (strcmp(word, "--force"))
			return lol_error(err, -EINVAL, "%s: not --force; the command is: %s", word, verb->usage);
		return json_object_set_new(request, "force", json_true());
	case KEY:
		if (strlen(word) != 1 || word[0] <= ' ' || word[0] > '~')
			return lol_error(
				err, -EINVAL,
				"sysrq %s: not a key; give one character, such as t (h lists them on the guest's console)",
				word);
		return json_object_set_new(request, "key", json_string(word));
	case MAYBE_SIZE:
		if (parse_size(word, 1 << 20, &size, err))
			return lol_error_prefix(err, -EINVAL, "balloon %s", word);
		return json_object_set_new(request, "size", json_integer((json_int_t)size));
	case DISK:
		if (n == 0)
			return json_object_set_new(request, "disk", json_string(word))
				       ? lol_error(err, -EINVAL,
						   "resize: a disk is a name in UTF-8; give one, such as vda")
				       : 0;
		if (n == 1 && parse_size(word, 1 << 20, &size, err))
			return lol_error_prefix(err, -EINVAL, "resize %s", word);
		if (n == 1)
			return json_object_set_new(request, "size", json_integer((json_int_t)size));
		if (strcmp(word, "--shrink"))
			return lol_error(err, -EINVAL, "%s: not --shrink; the command is: %s", word, verb->usage);
		return json_object_set_new(request, "shrink", json_true());
	default:
		if (!*word || json_object_set_new(request, "file", json_string(word)))
			return lol_error(err, -EINVAL, "dump: a file needs a name in UTF-8; give one");
		return 0;
	}
}

json_t *control_request(unsigned n, const char *const words[], struct lol_error *err)
{
	const struct verb *verb = NULL;
	json_t *request;

	for (size_t i = 0; i < ARRAY_LEN(verbs); i++)
		if (n && !strcmp(words[0], verbs[i].name))
			verb = &verbs[i];
	if (!verb) {
		lol_error(err, -EINVAL, "%s: no such command; 'help' lists them", n ? words[0] : "");
		return NULL;
	}
	if (n - 1 < verb->least || n - 1 > verb->most) {
		lol_error(err, -EINVAL, "%s: %s; the command is: %s", verb->name,
			  n - 1 < verb->least ? "something is missing" : "takes less than that", verb->usage);
		return NULL;
	}
	request = json_pack("{s:s}", "do", verb->name);
	if (!request)
		lol_error(err, -ENOMEM, "%s: out of memory; end other programs", verb->name);
	for (unsigned i = 1; request && i < n; i++)
		if (add_argument(request, verb, i - 1, words[i], err)) {
			json_decref(request);
			request = NULL;
		}
	return request;
}

/* ---- answers ---- */

struct out {
	char *text;
	size_t len;
};

static void add(struct out *o, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void add(struct out *o, const char *fmt, ...)
{
	va_list args;
	char *piece, *all;
	int len;

	va_start(args, fmt);
	len = vasprintf(&piece, fmt, args);
	va_end(args);
	if (len < 0)
		return;
	all = realloc(o->text, o->len + (size_t)len + 1);
	if (all) {
		memcpy(all + o->len, piece, (size_t)len + 1);
		o->text = all;
		o->len += (size_t)len;
	}
	free(piece);
}

/* Text from elsewhere: no control character of it reaches the terminal. */
static void add_clean(struct out *o, const char *text)
{
	size_t start = o->len;

	add(o, "%s", text);
	for (char *p = o->text ? o->text + start : NULL; p && *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			*p = '?';
}

static void add_size(struct out *o, json_int_t bytes)
{
	if (bytes % (1 << 30) == 0 && bytes)
		add(o, "%" JSON_INTEGER_FORMAT " GiB", bytes >> 30);
	else
		add(o, "%" JSON_INTEGER_FORMAT " MiB", bytes >> 20);
}

static void add_uptime(struct out *o, double seconds)
{
	unsigned long s = seconds > 0 ? (unsigned long)seconds : 0;

	if (s >= 86400)
		add(o, "%lud ", s / 86400);
	add(o, "%02lu:%02lu:%02lu", s / 3600 % 24, s / 60 % 60, s % 60);
}

static void add_value(struct out *o, const char *key, const json_t *value)
{
	const json_t *item;
	size_t i;

	if (json_is_array(value)) {
		for (i = 0; (item = json_array_get(value, i)); i++) {
			if (i)
				add(o, " ");
			add_clean(o, json_is_string(item) ? json_string_value(item) : "?");
		}
	} else if (!strcmp(key, "memory") || !strcmp(key, "resident") || !strcmp(key, "size")) {
		add_size(o, json_integer_value(value));
	} else if (!strcmp(key, "uptime")) {
		add_uptime(o, json_number_value(value));
	} else if (json_is_string(value)) {
		add_clean(o, json_string_value(value));
	} else if (json_is_integer(value)) {
		add(o, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
	} else if (json_is_boolean(value)) {
		add(o, "%s", json_is_true(value) ? "yes" : "no");
	} else if (json_is_real(value)) {
		add(o, "%.3f", json_real_value(value));
	}
}

static void add_members(struct out *o, json_t *object)
{
	const char *key;
	json_t *value;

	for (void *i = json_object_iter(object); i; i = json_object_iter_next(object, i)) {
		key = json_object_iter_key(i);
		value = json_object_iter_value(i);
		if (!strcmp(key, "ok") || !strcmp(key, "id") || json_is_object(value) || json_is_null(value))
			continue;
		add_clean(o, key);
		add(o, "\t");
		add_value(o, key, value);
		add(o, "\n");
	}
}

char *control_text(const char *what, const json_t *answer)
{
	struct out o = {strdup(""), 0};
	json_t *copy = json_copy((json_t *)answer);

	if (!json_is_true(json_object_get(answer, "ok"))) {
		const char *why = json_string_value(json_object_get(answer, "error"));
		add_clean(&o, why ? why : "the VM has given no reason");
		add(&o, "\n");
	} else if (!strcmp(what, "status") || !strcmp(what, "balloon") || !strcmp(what, "dump")) {
		add_members(&o, copy);
	} else if (!strcmp(what, "disks")) {
		json_t *disk;
		size_t i;
		for (i = 0; (disk = json_array_get(json_object_get(answer, "disks"), i)); i++)
			add_members(&o, disk);
	} else if (!strcmp(what, "stats")) {
		add_members(&o, copy);
		add_members(&o, json_object_get(answer, "counters"));
	}
	json_decref(copy);
	return o.text;
}
