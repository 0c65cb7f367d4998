/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * crossing START SECONDS MICROSECONDS - how often a program that computes for so long between two system calls gets
 * round, from START (seconds since 1970, so that several machines begin together) on. Prints the number of calls.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static double now(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void compute(unsigned long turns)
{
	for (unsigned long i = 0; i < turns; i++)
		__asm__ volatile("" ::: "memory");
}

/* Turns of compute() in a microsecond: the best of several, so that stolen time does not count. */
static double turns_per_us(void)
{
	double best = 1;

	for (int i = 0; i < 20; i++) {
		double t = now(CLOCK_MONOTONIC);
		compute(1000000);
		t = (now(CLOCK_MONOTONIC) - t) * 1e6;
		if (1000000 / t > best)
			best = 1000000 / t;
	}
	return best;
}

int main(int argc, char **argv)
{
	if (argc != 4) {
		fprintf(stderr, "usage: crossing START SECONDS MICROSECONDS\n");
		return 125;
	}
	unsigned long turns = (unsigned long)(turns_per_us() * atof(argv[3])), calls = 0;
	double start = atof(argv[1]), end;
	while (now(CLOCK_REALTIME) < start)
		usleep(1000);
	end = now(CLOCK_MONOTONIC) + atof(argv[2]);
	do {
		for (int i = 0; i < (turns ? 1 : 64); i++) {
			compute(turns);
			syscall(SYS_getppid);
			calls++;
		}
	} while (now(CLOCK_MONOTONIC) < end);
	printf("%lu\n", calls);
	return 0;
}
