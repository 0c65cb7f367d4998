/* SPDX-License-Identifier: BSD-2-Clause */
#include "cpus.h"

#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A list of CPUs ("0-3,8") that sysfs has of one. False: there is no such file. */
static bool read_list(const char *sysfs, int of, const char *name, cpu_set_t *set)
{
	char path[256], text[4096];

	CPU_ZERO(set);
	snprintf(path, sizeof(path), "%s/cpu%d/%s", sysfs, of, name);
	FILE *f = fopen(path, "re");
	if (!f)
		return false;
	bool read = fgets(text, sizeof(text), f);
	fclose(f);
	for (char *p = text; read && *p >= '0' && *p <= '9';) {
		long first = strtol(p, &p, 10), last = *p == '-' ? strtol(p + 1, &p, 10) : first;
		for (long i = first; i <= last && i < CPU_SETSIZE; i++)
			CPU_SET((size_t)i, set);
		p += *p == ',';
	}
	return read;
}

void cpus_order(const char *sysfs, int *cpu, unsigned n, int here)
{
	int ordered[CPU_SETSIZE];
	unsigned first = 0, count = 0;
	cpu_set_t core, cache;

	for (unsigned i = 0; i < n; i++)
		if (cpu[i] == here)
			first = i;
	if (!n)
		return;
	read_list(sysfs, cpu[first], "topology/thread_siblings_list", &core);
	bool known = read_list(sysfs, cpu[first], "cache/index3/shared_cpu_list", &cache);
	ordered[count++] = cpu[first];
	for (int distance = 0; distance <= 2; distance++)
		for (unsigned i = 1; i < n; i++) {
			int other = cpu[(first + i) % n];
			int d = CPU_ISSET((size_t)other, &core) ? 2 : known && !CPU_ISSET((size_t)other, &cache);
			if (d == distance)
				ordered[count++] = other;
		}
	memcpy(cpu, ordered, n * sizeof(*cpu));
}
