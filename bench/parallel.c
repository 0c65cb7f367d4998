/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * parallel processes|threads COUNT UNITS: so many workers, each with the same work; prints the milliseconds from before the
 * first is made until the last is done, and a check sum. The work is arithmetic and a walk through 256 KiB of its own.
 */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define WORDS (256u << 10 >> 3)

static uint64_t units;

static void *work(void *arg)
{
	uint64_t *memory = calloc(WORDS, sizeof(*memory)), x = 88172645463325252ull;

	(void)arg;
	if (!memory)
		exit(1);
	for (uint64_t i = 0; i < units; i++) {
		for (unsigned k = 0; k < 1000; k++) {
			x ^= x << 13;
			x ^= x >> 7;
			x ^= x << 17;
			memory[x % WORDS] += x;
		}
	}
	x ^= memory[x % WORDS];
	free(memory);
	return (void *)(uintptr_t)(x & 0xffffff);
}

int main(int argc, char **argv)
{
	struct timespec from, to;
	unsigned count = argc > 2 ? (unsigned)atoi(argv[2]) : 0;
	pthread_t threads[64];
	void *sum = NULL;
	int status = 0, bad = 0;

	if (argc != 4 || !count || count > 64 || !(units = strtoull(argv[3], NULL, 10))) {
		fprintf(stderr, "usage: parallel processes|threads COUNT UNITS\n");
		return 125;
	}
	clock_gettime(CLOCK_MONOTONIC, &from);
	if (!strcmp(argv[1], "threads")) {
		for (unsigned i = 0; i < count; i++)
			bad |= pthread_create(&threads[i], NULL, work, NULL);
		for (unsigned i = 0; i < count && !bad; i++)
			pthread_join(threads[i], &sum);
	} else {
		for (unsigned i = 0; i < count; i++)
			if (fork() == 0)
				_exit(work(NULL) == NULL);
		while (wait(&status) > 0)
			bad |= status;
	}
	clock_gettime(CLOCK_MONOTONIC, &to);
	printf("%.1f %lx\n", (double)(to.tv_sec - from.tv_sec) * 1e3 + (double)(to.tv_nsec - from.tv_nsec) / 1e6,
	       (unsigned long)(uintptr_t)sum);
	return bad != 0;
}
