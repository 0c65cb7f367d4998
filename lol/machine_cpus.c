/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The host CPUs of a machine: K on one, the U's on another, so that a hand-over by spinning needs no wake-up.
 *
 * A machine stays where it begins. So that several do not sit on the same CPUs, each claims the one of its U's, by a name that
 * all machines of this network namespace see and that goes with the process; where all are taken, it begins with those that have
 * fewest. Among equals it takes the one where we are: the host has just put us there because it had least to do. Its
 * partner shares a cache with it but no core, as a thread that spins takes half of that.
 */
#include <errno.h>
#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "cpus.h"
#include "machine_int.h"

#define SYSFS "/sys/devices/system/cpu"
#define CLAIMS_MAX 64u /* of one CPU; more machines than that take what comes */

/* Be the one who has this CPU as its number `count`. False: somebody has. */
static bool claim(int cpu, unsigned count, int *fd)
{
	struct sockaddr_un name = {.sun_family = AF_UNIX};
	int n = snprintf(name.sun_path + 1, sizeof(name.sun_path) - 1, "lol-run/cpu%d/%u", cpu, count);

	*fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (*fd < 0 ||
	    !bind(*fd, (struct sockaddr *)&name, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n)) ||
	    errno != EADDRINUSE)
		return true; /* who cannot ask does not wait for an answer */
	close(*fd);
	return false;
}

/* Claim the CPU of cpu[] that has fewest claims, from index `first` on. Returns its index. */
static unsigned claim_one(const int *cpu, unsigned n, unsigned first, int *fd)
{
	for (unsigned count = 0; count < CLAIMS_MAX; count++)
		for (unsigned i = 0; i < n; i++)
			if (claim(cpu[(first + i) % n], count, fd))
				return (first + i) % n;
	*fd = -1;
	return first;
}

/* Put cpu[] into the order in which this machine uses them, and claim those of its U's. */
static void choose(int *cpu, unsigned n, unsigned vcpus)
{
	static int held[MAX_VCPUS];
	static unsigned nheld;
	unsigned first = 0;

	while (nheld) /* of a boot before */
		close(held[--nheld]);
	int here = sched_getcpu();
	for (unsigned i = 0; i < n; i++)
		if (cpu[i] == here)
			first = i;
	first = claim_one(cpu, n, first, &held[nheld++]);
	cpus_order(SYSFS, cpu, n, cpu[first]);
	for (unsigned i = 1; i < vcpus && i < n && nheld < MAX_VCPUS; i++)
		claim_one(&cpu[i], 1, 0, &held[nheld++]);
}

/*
 * A bound of 200 us before sleeping. With one CPU in the affinity mask both sides sleep at once. Several vCPUs are spread over the CPUs, each with its U's; K decides
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
	if (n)
		choose(cpu, n, vcpus);
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
	m->near.u_cpu = ctl->u_cpu[0];
}
