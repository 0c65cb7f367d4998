/* SPDX-License-Identifier: BSD-2-Clause */
/* Guest RAM that is taken from the host ahead of the guest, where taking it is slow. See ram_ahead.c. */
#ifndef LOL_RAM_AHEAD_H
#define LOL_RAM_AHEAD_H

#include <sched.h>
#include <stdbool.h>
#include <stdint.h>

#define RAM_PIECE (2ull << 20)       /* bytes that the host takes at once, see ram_file.c */
#define RAM_AHEAD_MAX (32ull << 20)  /* bytes of RAM that are taken and not used, at most: also a 32nd of all RAM */
#define RAM_AHEAD_SLOW_NS 1000000ull /* for a piece; 110 us are usual, 600 where it comes in pages of 4 KiB */

struct ram_ahead;

/* Where the thread may run: not where the guest itself takes memory at the time. */
struct ram_ahead_cpus {
	cpu_set_t all;                /* with one more CPU than avoid names at a time */
	const _Atomic uint32_t *home; /* which of avoid holds: 0 the first, else the second. NULL: none */
	int avoid[2];                 /* CPUs, or -1 */
};

/*
 * Start the thread. fd, a file from ram_file_create(), of which size bytes are mapped at base, is the caller's and stays open and
 * mapped until ram_ahead_stop(), as does *cpus->home. slow_ns: what a piece takes on a host where it is worth the
 * trouble. NULL with errno, from pthread_create() and calloc(); also (EINVAL) when RAM is too small for a piece ahead.
 */
struct ram_ahead *ram_ahead_start(int fd, uint8_t *base, uint64_t size, const struct ram_ahead_cpus *cpus,
				  uint64_t slow_ns);
void ram_ahead_stop(struct ram_ahead *a); /* NULL: nothing happens */

/* Something goes on in the guest: the thread looks whether it takes memory, for some 100 ms. Cheap. The starter's thread. */
void ram_ahead_wake(struct ram_ahead *a);

/* Take none, because the guest is to use less than it has. The starter's thread. */
void ram_ahead_hold(struct ram_ahead *a, bool hold);

uint64_t ram_ahead_taken(const struct ram_ahead *a); /* pieces until now */

#endif
