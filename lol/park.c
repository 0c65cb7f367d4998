/* SPDX-License-Identifier: BSD-2-Clause */
#include "park.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "machine_int.h"

static void set_want(struct machine *m, uint32_t want)
{
	for (unsigned i = 0; i < m->ctl_cpus; i++) {
		_Atomic uint32_t *word = &m->ctl->park[i].want;
		if (!want && m->parking.stay >> i & 1)
			continue;
		atomic_store(word, want);
		syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
	}
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
	bool first = !p->holders;

	p->holders |= who;
	if (!first)
		return;
	do
		p->number++;
	while (p->number == 0 || p->number == PARK_SELF);
	set_want(m, p->number);
	machine_kick(m);
}

void park_wake(struct machine *m, unsigned cpu)
{
	_Atomic uint32_t *word = &m->ctl->park[cpu].want;

	if (m->parking.holders)
		return;
	atomic_store(word, 0);
	syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
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
	set_want(m, 0);
	tell_waiters(m, -ECANCELED);
}

bool park_at_rest(const struct machine *m)
{
	if (!m->parking.holders)
		return false;
	for (unsigned i = 0; i < m->ctl_cpus; i++) {
		struct park *p = &m->ctl->park[i];
		if (atomic_load(&p->started) && atomic_load(&p->at_rest) != m->parking.number)
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
