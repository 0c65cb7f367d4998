/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A vCPU in hlt.  Runs in K, site context.
 *
 * Waking a thread on an idle CPU takes 20 to 40 us, as much as a small read from a disk whose image the host has in memory. So
 * where the last waits were short K looks for what may come for a while before it sleeps, at most as long as POLL_MAX_US, and
 * nobody has to wake it. Long waits end that: an idle guest costs nothing. (KVM does the same, see halt-polling.rst of Linux.)
 * Not where a host CPU would be missed: nobody spins there (handoff.c), other vCPUs run, or the monitor needs this one (near.c).
 */
#include <linux/futex.h>
#include <sys/syscall.h>

#include "cpu/k.h"

K_ALLOW(futex);

#define POLL_MIN_US 10u
#define POLL_MAX_US 100u
#define SHORT_US 200u /* a wait that polling could have caught */

static bool due(struct vcpu *v)
{
	return interrupt_waiting(v) || vh.park; /* to rest, hlt ends for nothing, as it may */
}

static bool may_poll(const struct vcpu *v)
{
	return v->idle_poll && kctl->spin_us && !v->handoff.home &&
	       !atomic_load_explicit(&kctl->monitor_near, memory_order_relaxed) &&
	       atomic_load_explicit(&vcpus_active, memory_order_relaxed) * 2 + 1 <= kctl->host_cpus;
}

/*
 * True: something is due. The others see HALT_POLLS, and for device interrupts K's word to the monitor, before our last look
 * or not at all, see vcpu_kick() and raise_line() in machine.c.
 */
static bool poll(struct vcpu *v)
{
	uint64_t until = rdtsc() + v->idle_poll;
	bool found;

	atomic_store(&v->halted, HALT_POLLS);
	if (v->id == 0)
		atomic_store(&kctl->k_polls, 1);
	while (!(found = due(v)) && rdtsc() < until)
		__builtin_ia32_pause();
	if (v->id == 0)
		atomic_store(&kctl->k_polls, 0);
	return found;
}

static void adapt(struct vcpu *v, uint64_t waited)
{
	if (waited <= v->idle_poll)
		return;
	if (waited > us_to_tsc(SHORT_US))
		v->idle_poll = v->idle_poll > us_to_tsc(POLL_MIN_US) ? v->idle_poll / 2 : 0;
	else
		v->idle_poll = MIN(MAX(v->idle_poll * 2, us_to_tsc(POLL_MIN_US)), us_to_tsc(POLL_MAX_US));
}

/* hlt with interrupts on: until something is due. */
void vcpu_idle(struct vcpu *v)
{
	uint64_t began = rdtsc();

	STAT(hlt);
	v->handoff.idled = true;
	atomic_fetch_sub(&vcpus_active, 1);
	if (!may_poll(v) || !poll(v)) {
		STAT(hlt_sleeps);
		atomic_store(&v->halted, HALT_SLEEPS); /* before the last look */
		for (;;) {
			uint32_t seen = atomic_load(&v->event);
			if (due(v))
				break;
			sys6(SYS_futex, (long)&v->event, FUTEX_WAIT_PRIVATE, seen, 0, 0, 0);
			v->handoff.sleeps++; /* the wake-up is not a competitor's doing, see look_at_scheduler() */
		}
	}
	atomic_store_explicit(&v->halted, 0, memory_order_relaxed);
	atomic_fetch_add(&vcpus_active, 1);
	vh.pending = 1;
	adapt(v, rdtsc() - began);
}
