/* SPDX-License-Identifier: BSD-2-Clause */
#include "park.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "machine_int.h"

/* It has answered, and nobody has let it go since. */
static bool rests(const struct park *p)
{
	uint32_t want = atomic_load(&p->want);

	return want && atomic_load(&p->at_rest) == want;
}

static void let_go(struct park *p)
{
	atomic_store(&p->want, 0);
	syscall(SYS_futex, &p->want, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

static void tell_waiters(struct machine *m, int error)
{
	struct parking *p = &m->parking;
	struct park_waiter waiters[PARK_WAITERS];
	unsigned n = p->nwaiters;

	memcpy(waiters, p->waiters, sizeof(waiters));
	p->nwaiters = 0;
	loop_mod_timer_ns(m->loop, p->timer, 0, 0);
	for (unsigned i = 0; i < n; i++)
		waiters[i].fn(waiters[i].arg, error);
}

static void on_patience_over(void *arg)
{
	tell_waiters(arg, -ETIMEDOUT);
}

void park_init(struct machine *m)
{
	m->parking = (struct parking){.timer = loop_add_timer_ns(m->loop, 0, 0, on_patience_over, m)};
}

void park_fini(struct machine *m)
{
	m->parking.nwaiters = 0;
	if (m->loop && m->parking.timer >= 0)
		loop_del_timer(m->loop, m->parking.timer);
}

void park_hold(struct machine *m, enum park_holder who)
{
	struct parking *p = &m->parking;
	bool first = !p->holders, all = true;

	p->holders |= who;
	if (!first)
		return;
	do
		p->number++;
	while (p->number == 0 || p->number == PARK_SELF);
	for (unsigned i = 0; i < m->ctl_cpus; i++) {
		struct park *park = &m->ctl->park[i];
		if (rests(park)) /* at a breakpoint, say: it stays as it is, which saves a stop of a step two wake-ups */
			continue;
		atomic_store(&park->want, p->number);
		all &= !atomic_load(&park->started);
	}
	if (!all)
		machine_kick(m);
}

void park_wake(struct machine *m, unsigned cpu)
{
	if (!m->parking.holders)
		let_go(&m->ctl->park[cpu]);
}

void park_wake_all(struct machine *m)
{
	for (unsigned i = 0; i < m->ctl_cpus; i++)
		park_wake(m, i);
}

void park_release(struct machine *m, enum park_holder who)
{
	struct parking *p = &m->parking;

	if (!(p->holders & who))
		return;
	p->holders &= ~(unsigned)who;
	if (p->holders)
		return;
	for (unsigned i = 0; i < m->ctl_cpus; i++)
		if (!(p->stay >> i & 1))
			let_go(&m->ctl->park[i]);
	tell_waiters(m, -ECANCELED);
}

bool park_at_rest(const struct machine *m)
{
	if (!m->parking.holders)
		return false;
	for (unsigned i = 0; i < m->ctl_cpus; i++) {
		const struct park *p = &m->ctl->park[i];
		/* The first one is on its way when it has not started yet, and has no state to show. */
		if ((i == 0 || atomic_load(&p->started)) && !rests(p))
			return false;
	}
	return true;
}

int park_when_at_rest(struct machine *m, park_fn fn, void *arg)
{
	struct parking *p = &m->parking;

	if (park_at_rest(m)) {
		fn(arg, 0);
		return 0;
	}
	if (p->nwaiters == PARK_WAITERS)
		return -EAGAIN;
	p->waiters[p->nwaiters++] = (struct park_waiter){fn, arg};
	loop_mod_timer_ns(m->loop, p->timer, PARK_PATIENCE_NS, 0);
	return 0;
}

void park_forget(struct machine *m, void *arg)
{
	struct parking *p = &m->parking;
	unsigned n = 0;

	for (unsigned i = 0; i < p->nwaiters; i++)
		if (p->waiters[i].arg != arg)
			p->waiters[n++] = p->waiters[i];
	p->nwaiters = n;
}

void park_doorbell(struct machine *m)
{
	gdb_doorbell(m);
	if (m->parking.nwaiters && park_at_rest(m))
		tell_waiters(m, 0);
}
