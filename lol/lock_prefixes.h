/* SPDX-License-Identifier: BSD-2-Clause */
/* The lock prefixes of a kernel that has one vCPU. Runs in the monitor; the kernel is input of unknown quality. */
#ifndef LOL_LOCK_PREFIXES_H
#define LOL_LOCK_PREFIXES_H

#include "ram.h"

/*
 * Make the lock prefixes that the table [first, end) of a loaded and relocated kernel names a prefix without effect, but for those
 * in the regions of the site table [sites, sites_end), whose instructions K rewrites. All are addresses in guest RAM; entries that
 * lead to anything else than such a prefix are left alone. False: no memory, nothing was done.
 */
bool lock_prefixes_drop(const struct guest_ram *ram, gpa_t first, gpa_t end, gpa_t sites, gpa_t sites_end);

#endif
