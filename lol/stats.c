/* SPDX-License-Identifier: BSD-2-Clause */
/* --stats: K's counters as JSON. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "machine_int.h"

struct kstats stats_sum(const struct machine *m)
{
	struct kstats s = {0};

	for (unsigned i = 0; i < m->ctl_cpus; i++) {
#define X(name) s.name += m->ctl->stats[i].name;
		KSTATS(X)
#undef X
	}
	s.ram_ahead = m->ahead ? ram_ahead_taken(m->ahead) : 0; /* our own, whatever K says */
	return s;
}

void stats_write(struct machine *m)
{
	const char *path = m->opts->stats_path;
	FILE *out = path ? fopen(path, "we") : stderr;

	if (!out) {
		lol_fail(0, "%s: %s; the statistics are lost", path, strerror(errno));
		return;
	}
	struct kstats s = stats_sum(m);
	fprintf(out, "{");
	const char *comma = "";
#define X(name) fprintf(out, "%s\n  \"" #name "\": %llu", comma, (unsigned long long)s.name), comma = ",";
	KSTATS(X)
#undef X
	fprintf(out, "\n}\n");
	if (path)
		fclose(out);
	else
		fflush(out);
}
