/* SPDX-License-Identifier: BSD-2-Clause */
/* --stats: K's counters as JSON; and the choice of host CPUs for a hand-over. */
#include <errno.h>
#include <sched.h>
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

/*
 * K on one CPU, the U's on another, so that a hand-over by spinning needs no wake-up; a bound of 200 us before sleeping. With
 * one CPU in the affinity mask both sides sleep at once. Several vCPUs are spread over the CPUs, each with its U's; K decides
 * when there are enough for spinning (cpu/handoff.c).
 */
void handoff_choose(struct machine *m)
{
	struct kctl *ctl = m->ctl;
	unsigned n = 0, vcpus = m->ctl_cpus;
	int cpu[CPU_SETSIZE];

	CPU_ZERO(&m->cpus);
	if (sched_getaffinity(0, sizeof(m->cpus), &m->cpus) == 0)
		for (int i = 0; i < CPU_SETSIZE; i++)
			if (CPU_ISSET((unsigned)i, &m->cpus))
				cpu[n++] = i;
	ctl->crowded = vcpus > n;
	ctl->host_cpus = n;
	bool spin = n >= 2 && m->opts->handoff != HANDOFF_SLEEP;
	ctl->spin_us = spin ? (m->opts->spin_us >= 0              ? (uint32_t)m->opts->spin_us
			       : m->opts->handoff == HANDOFF_SPIN ? 1000
								  : 200)
			    : 0;
	for (unsigned i = 0; i < MAX_VCPUS; i++) {
		ctl->k_cpu[i] = ctl->u_cpu[i] = -1;
		if (n < 2 || i >= vcpus)
			continue;
		ctl->u_cpu[i] = cpu[i % n];
		ctl->k_cpu[i] = spin ? cpu[(i + (2 * vcpus <= n ? vcpus : 1)) % n] : cpu[i % n];
	}
	m->near.k_cpu = ctl->k_cpu[0];
}
