/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Locks between the vCPUs' threads.  Runs in K, site or signal context.
 *
 * A holder may lose its host CPU, so who waits spins for a moment only and then sleeps (the three states are those of
 * Drepper, "Futexes are tricky").  Kicks may arrive while a lock is held: their handler takes none there.
 */
#include <linux/futex.h>
#include <sys/syscall.h>

#include "cpu/k.h"

K_ALLOW(futex);

#define LOCK_SPINS 200

void k_lock(struct klock *l)
{
	for (unsigned i = 0; i < LOCK_SPINS; i++) {
		uint32_t free = 0;
		if (atomic_load_explicit(&l->word, memory_order_relaxed) == 0 &&
		    atomic_compare_exchange_strong(&l->word, &free, 1))
			return;
		__builtin_ia32_pause();
	}
	while (atomic_exchange(&l->word, 2) != 0)
		sys6(SYS_futex, (long)&l->word, FUTEX_WAIT_PRIVATE, 2, 0, 0, 0);
}

void k_unlock(struct klock *l)
{
	if (atomic_exchange(&l->word, 0) == 2)
		sys6(SYS_futex, (long)&l->word, FUTEX_WAKE_PRIVATE, 1, 0, 0, 0);
}
