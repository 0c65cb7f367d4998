/* SPDX-License-Identifier: BSD-2-Clause */
/* lolctl stats --watch: what has changed, every second, until the VM ends or the user has seen enough. */
#include "lolctl.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "control_dir.h"

#define ANSWER_MS 10000

/* One line a second: the counters that moved, with their rate. */
static void print_changes(const json_t *before, const json_t *now)
{
	json_t *counters = json_object_get(now, "counters"), *old = json_object_get(before, "counters"), *value;
	double seconds = json_number_value(json_object_get(now, "uptime")) -
			 json_number_value(json_object_get(before, "uptime"));
	const char *key, *space = "";

	for (void *i = json_object_iter(counters); i; i = json_object_iter_next(counters, i)) {
		key = json_object_iter_key(i);
		value = json_object_iter_value(i);
		json_int_t diff = json_integer_value(value) - json_integer_value(json_object_get(old, key));
		if (diff <= 0 || seconds <= 0)
			continue;
		printf("%s%s %.0f/s", space, key, (double)diff / seconds);
		space = "  ";
	}
	printf("%s\n", *space ? "" : "idle");
}

int lolctl_watch(const char *name, const json_t *request, bool json)
{
	json_t *before = NULL, *now;
	struct lol_error err;
	int fd = control_connect(name, &err);

	if (fd < 0)
		return lol_fail(1, "%s", err.text);
	while ((now = lolctl_ask(fd, request, ANSWER_MS, &err))) {
		if (json) {
			char *line = json_dumps(now, JSON_COMPACT);
			puts(line ? line : "{}");
			free(line);
		} else if (before) {
			print_changes(before, now);
		}
		json_decref(before);
		before = now;
		if (fflush(stdout) || ferror(stdout))
			break;
		sleep(1);
	}
	if (now || before) { /* the VM has ended, or our reader has gone */
		json_decref(before);
		close(fd);
		return LOL_EXIT_OK;
	}
	close(fd);
	return lol_fail(1, "%s: %s", name, err.text);
}
