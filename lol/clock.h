/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LOL_CLOCK_H
#define LOL_CLOCK_H

#include <stdint.h>
#include <time.h>

/* A clock of the host's, of a time or of CPU time, in nanoseconds. */
static inline uint64_t clock_ns(clockid_t clock)
{
	struct timespec ts = {0};

	clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

#endif
