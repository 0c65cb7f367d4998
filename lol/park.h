/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The monitor's side of bringing the vCPUs to rest (lol/vstate.h has the words, lol/cpu/park.c is K's side).
 *
 * Several parts of the monitor may want the guest at rest at the same time, each under its own name: the guest runs
 * when nobody does. Nothing here waits: who needs the guest at rest is called back. All in the loop's thread.
 */
#ifndef LOL_PARK_H
#define LOL_PARK_H

#include <stdbool.h>
#include <stdint.h>

struct machine;

/* Who. */
enum park_holder {
	PARK_USER = 1,  /* lolctl pause */
	PARK_DUMP = 2,  /* while a dump is written */
	PARK_GDB = 4,   /* stopped in gdb */
	PARK_PANIC = 8, /* --panic=hold, --dump-on-panic */
};

#define PARK_PATIENCE_NS 10000000000ull /* for all vCPUs to come to rest; a guest that holds K up may never */
#define PARK_WAITERS 16

/* error: 0 the guest is at rest; -ETIMEDOUT it does not come to rest; -ECANCELED nobody wants it to any more. */
typedef void (*park_fn)(void *arg, int error);

struct parking {
	unsigned holders; /* enum park_holder */
	uint32_t number;  /* of this rest, see vstate.h */
	uint64_t stay;    /* bit n: vCPU n is not to go on with the others (gdb steps one of them) */
	int timer;        /* -1: none yet */
	unsigned nwaiters;
	struct park_waiter {
		park_fn fn;
		void *arg;
	} waiters[PARK_WAITERS];
};

void park_init(struct machine *m);
void park_fini(struct machine *m);

void park_hold(struct machine *m, enum park_holder who); /* takes a moment, see park_when_at_rest() */
void park_release(struct machine *m, enum park_holder who);

/* Let go what rests on its own account, or was to stay behind; only while nobody holds the guest. */
void park_wake(struct machine *m, unsigned cpu);
void park_wake_all(struct machine *m);

/* Does every vCPU rest on our account? Then its state in the control page is true and stays so until the release. */
bool park_at_rest(const struct machine *m);

/* Call fn once, now or when the guest that somebody holds is at rest. -EAGAIN: too many wait. */
int park_when_at_rest(struct machine *m, park_fn fn, void *arg);
void park_forget(struct machine *m, void *arg); /* do not call those with arg any more */

void park_doorbell(struct machine *m); /* K has something to say */

#endif
