/* SPDX-License-Identifier: BSD-2-Clause */
/* --stats: K's counters as JSON; and the choice of host CPUs for a hand-over. */
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

#include "machine_int.h"

void stats_write(struct machine *m)
{
	const char *path = m->opts->stats_path;
	FILE *out = path ? fopen(path, "we") : stderr;

	if (!out) {
		lol_fail(0, "%s: %s; the statistics are lost", path, strerror(errno));
		return;
	}
	struct kstats s = m->ctl->stats;
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

/*
 * K on one CPU, the U's on another, so that a hand-over by spinning needs no wake-up; a bound of 200 us before
 * sleeping. With one CPU in the affinity mask both sides sleep at once.
 */
void handoff_choose(struct machine *m)
{
	cpu_set_t set;
	int cpu[2] = {-1, -1}, n = 0;

	m->ctl->k_cpu = m->ctl->u_cpu = -1;
	if (sched_getaffinity(0, sizeof(set), &set) == 0)
		for (int i = 0; i < CPU_SETSIZE && n < 2; i++)
			if (CPU_ISSET((unsigned)i, &set))
				cpu[n++] = i;
	bool spin = n == 2 && m->opts->handoff != HANDOFF_SLEEP;
	m->ctl->spin_us = spin ? (m->opts->spin_us >= 0 ? (uint32_t)m->opts->spin_us : m->opts->handoff == HANDOFF_SPIN ? 1000 : 200) : 0;
	if (n == 2) {
		m->ctl->k_cpu = spin ? cpu[1] : cpu[0];
		m->ctl->u_cpu = cpu[0];
	}
}
