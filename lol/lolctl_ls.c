/* SPDX-License-Identifier: BSD-2-Clause */
/* lolctl ls: aligned on a terminal, with tabs and without a heading elsewhere. */
#include "lolctl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "control_dir.h"

#define ANSWER_MS 2000

static const char *text(const json_t *status, const char *key)
{
	const char *value = json_string_value(json_object_get(status, key));
	return value ? value : "?";
}

/* One VM's status; one that does not answer has no more than a name. NULL: it is not there (any more). */
static json_t *ask(const char *name)
{
	struct lol_error err;
	json_t *request, *status;
	int fd = control_connect(name, &err);

	if (fd < 0)
		return fd == -ENOENT ? NULL : json_pack("{s:s, s:s}", "name", name, "state", "not answering");
	request = json_pack("{s:s}", "do", "status");
	status = lolctl_ask(fd, request, ANSWER_MS, &err);
	json_decref(request);
	close(fd);
	return status ? status : json_pack("{s:s, s:s}", "name", name, "state", "not answering");
}

static void row(const json_t *s, bool aligned)
{
	long pid = (long)json_integer_value(json_object_get(s, "pid")),
	     cpus = (long)json_integer_value(json_object_get(s, "cpus"));
	long mib = (long)(json_integer_value(json_object_get(s, "memory")) >> 20),
	     up = (long)json_number_value(json_object_get(s, "uptime"));
	const char *kernel = text(s, "kernel");

	for (const char *p = kernel; *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			kernel = "?";
	printf(aligned ? "%-16s %-8ld %-14s %4ld %7ldM %3ld:%02ld:%02ld  %s\n"
		       : "%s\t%ld\t%s\t%ld\t%ldM\t%ld:%02ld:%02ld\t%s\n",
	       text(s, "name"), pid, text(s, "state"), cpus, mib, up / 3600, up / 60 % 60, up % 60, kernel);
}

int lolctl_ls(bool json)
{
	struct lol_error err;
	char **names = control_names(&err);
	json_t *all = json_array(), *status;
	bool aligned = isatty(1);
	size_t i;

	if (!names) {
		json_decref(all);
		return lol_fail(1, "%s", err.text);
	}
	for (char **name = names; *name; name++)
		if ((status = ask(*name)))
			json_array_append_new(all, status);
	control_free_names(names);
	if (json) {
		char *dump = json_dumps(all, JSON_INDENT(2));
		puts(dump ? dump : "[]");
		free(dump);
	} else {
		if (aligned)
			printf("%-16s %-8s %-14s %4s %8s %9s  %s\n", "NAME", "PID", "STATE", "CPUS", "MEMORY", "UPTIME",
			       "KERNEL");
		for (i = 0; (status = json_array_get(all, i)); i++)
			row(status, aligned);
	}
	json_decref(all);
	return fflush(stdout) || ferror(stdout)
		       ? lol_fail(1, "standard output: cannot be written; is it full or closed?")
		       : LOL_EXIT_OK;
}
