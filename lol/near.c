/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Where the monitor's thread runs: for a guest with one vCPU on two host CPUs.
 *
 * K has one of the CPUs, the U's the other. Waking a thread on an idle CPU takes 20 to 40 us, and one that is preempted by a
 * thread that spins for a hand-over comes no sooner. So the monitor sits on K's CPU, with what works for it in the host (threads of
 * io_uring): while it serves a request K has nothing to do, mostly, and it is there as soon as K sleeps or is preempted. Not where
 * it has a lot to do (writing behind, a network that streams): there the two work side by side, and the host finds a place.
 */
#include "machine_int.h"

#include "clock.h"
#include "devices/aio.h"

#define LOOK_NS 4000000ull
#define BUSY 70 /* per cent of a CPU: away from K */
#define CALM 50 /* back */

static void bind_to(struct machine *m, int cpu)
{
	cpu_set_t set = m->cpus;

	m->near.cpu = cpu;
	if (cpu >= 0) {
		CPU_ZERO(&set);
		CPU_SET((unsigned)cpu, &set);
	}
	sched_setaffinity(0, sizeof(set), &set); /* a wish: cpusets may forbid it */
	aio_bind(&set);
	atomic_store_explicit(&m->ctl->monitor_near, cpu >= 0, memory_order_relaxed);
}

/* Before each wait of the loop. */
static void look(void *arg)
{
	struct machine *m = arg;
	struct near *n = &m->near;
	uint64_t now = clock_ns(CLOCK_MONOTONIC), passed = now - n->looked;

	if (passed < LOOK_NS)
		return;
	uint64_t ran = clock_ns(CLOCK_THREAD_CPUTIME_ID), share = (ran - n->ran) * 100 / passed;
	n->looked = now;
	n->ran = ran;
	atomic_store_explicit(&m->ctl->monitor_ns, ran, memory_order_relaxed);
	bool home = atomic_load_explicit(&m->ctl->k_home, memory_order_relaxed);
	if (n->cpu < 0 && share < CALM && !home)
		bind_to(m, n->k_cpu);
	else if (n->cpu >= 0 && (share > BUSY || home))
		bind_to(m, -1);
}

int near_start(struct machine *m)
{
	m->near.cpu = -1;
	if (m->ctl_cpus > 1 || !m->ctl->spin_us || CPU_COUNT(&m->cpus) != 2)
		return 0;
	m->near.used = true;
	return loop_add_prepare(m->loop, look, m);
}

void near_stop(struct machine *m)
{
	if (!m->near.used)
		return;
	loop_del_prepare(m->loop, look, m);
	if (m->near.cpu >= 0)
		bind_to(m, -1);
	m->near.used = false;
}
