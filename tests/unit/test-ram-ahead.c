/* SPDX-License-Identifier: BSD-2-Clause */
/* RAM that is taken ahead of a guest, which is this test here: it touches pieces of a real file, and sees what the thread makes of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "../../lol/ram_ahead.c" /* for asleep */
#include "ram_file.h"

#define SIZE (1024ull << 20)
#define PIECES ((int)(SIZE / RAM_PIECE))
#define WINDOW ((int)(RAM_AHEAD_MAX / RAM_PIECE))
#define ALWAYS 0ull /* slow_ns: worth the trouble */
#define NEVER UINT64_MAX

static int fd = -1;
static uint8_t *ram;
static struct ram_ahead *ahead;

static bool present(int piece)
{
	unsigned char there;

	assert_int_equal(mincore(ram + (uint64_t)piece * RAM_PIECE, 1, &there), 0);
	return there & 1;
}

static int count_present(int from, int to)
{
	int n = 0;

	for (int i = from; i < to; i++)
		n += present(i);
	return n;
}

static void touch(int piece)
{
	ram[(uint64_t)piece * RAM_PIECE + 5] = 1;
}

static uint64_t taken(void)
{
	return ram_ahead_taken(ahead);
}

/* What has been used since the last time is seen, and what that leads to is done. */
static void settle(void)
{
	while (!atomic_load(&ahead->asleep))
		usleep(1000);
	ram_ahead_wake(ahead);
	while (!atomic_load(&ahead->asleep))
		usleep(1000);
}

static void start_on(const struct ram_ahead_cpus *cpus, uint64_t slow_ns, int first)
{
	fd = ram_file_create(SIZE);
	if (fd < 0) {
		print_message("no memory in pieces of 2 MiB for this user here\n");
		skip();
	}
	ram = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
	assert_ptr_not_equal(ram, MAP_FAILED);
	touch(first);
	ahead = ram_ahead_start(fd, ram, SIZE, cpus, slow_ns);
	assert_non_null(ahead);
	settle(); /* what is there at the beginning is not news */
	assert_int_equal(taken(), 0);
}

static void start(uint64_t slow_ns, int first)
{
	struct ram_ahead_cpus cpus = {.home = NULL};

	assert_int_equal(sched_getaffinity(0, sizeof(cpus.all), &cpus.all), 0);
	start_on(&cpus, slow_ns, first);
}

static int end(void **state)
{
	(void)state;
	ram_ahead_stop(ahead);
	ahead = NULL;
	if (fd >= 0) {
		munmap(ram, SIZE);
		close(fd);
	}
	fd = -1;
	return 0;
}

static void upwards(void **state)
{
	(void)state;
	start(ALWAYS, 0);
	for (int i = 1, used = 0; used < 12; i++)
		if (!present(i)) {
			touch(i);
			used++;
			settle();
			int last = count_present(0, PIECES) - 1;
			assert_int_equal(count_present(0, last + 1), last + 1); /* one behind the other */
			assert_in_range(last, i + 1, i + WINDOW);
			if (used > 6)
				assert_int_equal(last, i + WINDOW);
		}
	assert_true(taken() >= 6u * (unsigned)WINDOW);
	for (int i = 0; i < PIECES; i++) /* zeroes but for what the guest has written */
		assert_true(!present(i) || ram[(uint64_t)i * RAM_PIECE] == 0);
}

/* Blocks of two pieces, the upper block first, the lower piece of it first. */
static void downwards(void **state)
{
	int top = 300, lowest = PIECES, used = 0;

	(void)state;
	start(ALWAYS, 0);
	for (int i = 0; used < 10; i++) {
		int piece = top - i / 2 * 2 + i % 2;
		if (present(piece))
			continue;
		touch(piece);
		used++;
		settle();
		for (lowest = 1; !present(lowest); lowest++)
			;
		assert_in_range(count_present(lowest, top + 2), top + 1 - lowest,
				top + 2 - lowest); /* of the last block maybe one */
		assert_in_range(piece - lowest, 0, WINDOW + 2);
	}
	assert_true(taken() > 3u * (unsigned)WINDOW);
	assert_in_range(count_present(top + 2, PIECES), 0, WINDOW / 2); /* before it knew where the guest was going */
}

static void jumps(void **state)
{
	uint64_t before = 0;

	(void)state;
	start(ALWAYS, 0);
	for (int i = 0; i < 10; i++) {
		before = taken();
		touch((i * 211 + 97) % PIECES);
		settle();
	}
	assert_in_range(taken() - before, 0, 1);
	assert_in_range(taken(), 1, WINDOW);
}

static void quick_host(void **state)
{
	(void)state;
	start(NEVER, 0);
	for (int i = 1, used = 0; used < 10; i++)
		if (!present(i)) {
			touch(i);
			used++;
			settle();
			assert_in_range(taken(), 0, (unsigned)used);
			assert_in_range(count_present(0, PIECES), i + 1, i + 3);
		}
}

static void held(void **state)
{
	int i = 1;

	(void)state;
	start(ALWAYS, 0);
	ram_ahead_hold(ahead, true);
	for (; i < 6; i++) {
		touch(i);
		settle();
	}
	assert_int_equal(taken(), 0);
	ram_ahead_hold(ahead, false);
	settle();
	assert_int_equal(taken(), 0); /* what came meanwhile is not news */
	touch(i);
	settle();
	assert_true(taken() > 0);
}

static void given_back(void **state)
{
	(void)state;
	start(ALWAYS, 0);
	for (int i = 1; i < 4; i++) {
		touch(i);
		settle();
	}
	uint64_t before = taken();
	assert_int_equal(madvise(ram, SIZE, MADV_REMOVE), 0);
	settle();
	assert_int_equal(taken(), before);
	assert_int_equal(count_present(0, PIECES), 0);
	for (int i = 100; i < 104; i++) {
		touch(i);
		settle();
	}
	assert_true(taken() > before);
	assert_int_equal(count_present(0, 100), 0);
}

/* Nobody tells it that something goes on: it sleeps, and looks when somebody does. */
static void asleep(void **state)
{
	(void)state;
	start(ALWAYS, 0);
	usleep(500000);
	touch(1);
	touch(2);
	usleep(200000);
	assert_int_equal(taken(), 0);
	settle();
	assert_true(taken() > 0);
}

/* The guest's kernel is on one CPU or on the other: the thread is not where it is. */
static void keeps_away(void **state)
{
	struct ram_ahead_cpus cpus = {.avoid = {-1, -1}};
	_Atomic uint32_t home = 0;
	cpu_set_t where;
	int n = 0;

	(void)state;
	assert_int_equal(sched_getaffinity(0, sizeof(cpus.all), &cpus.all), 0);
	for (int i = 0; i < CPU_SETSIZE && n < 2; i++)
		if (CPU_ISSET((unsigned)i, &cpus.all))
			cpus.avoid[n++] = i;
	if (n < 2)
		skip();
	cpus.home = &home;
	start_on(&cpus, ALWAYS, 0);
	for (int i = 0; i < 6; i++) {
		uint64_t before = taken();
		atomic_store(&home, i % 2);
		touch(count_present(0, PIECES));
		settle();
		assert_true(taken() > before);
		assert_int_equal(pthread_getaffinity_np(ahead->thread, sizeof(where), &where), 0);
		assert_false(CPU_ISSET((unsigned)cpus.avoid[i % 2], &where));
		assert_true(CPU_COUNT(&where) > 0);
	}
	ram_ahead_stop(ahead); /* before home is gone */
	ahead = NULL;
}

static void ends_at_once(void **state)
{
	for (int i = 0; i < 20; i++) {
		start(ALWAYS, 0);
		touch(1);
		usleep((unsigned)i * 300);
		end(state);
	}
	ram_ahead_stop(NULL);
}

static void at_the_edges(void **state)
{
	(void)state;
	start(ALWAYS, 0);
	touch(PIECES - 2);
	settle();
	touch(PIECES - 1);
	settle();
	touch(2);
	settle();
	touch(0);
	settle();
	assert_in_range(taken(), 1, 2u * (unsigned)WINDOW);
}

static void too_small(void **state)
{
	struct ram_ahead_cpus cpus = {.home = NULL};

	(void)state;
	errno = 0;
	assert_null(ram_ahead_start(0, NULL, 32 << 20, &cpus, ALWAYS));
	assert_int_equal(errno, EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(upwards, end),
		cmocka_unit_test_teardown(downwards, end),
		cmocka_unit_test_teardown(jumps, end),
		cmocka_unit_test_teardown(quick_host, end),
		cmocka_unit_test_teardown(held, end),
		cmocka_unit_test_teardown(given_back, end),
		cmocka_unit_test_teardown(asleep, end),
		cmocka_unit_test_teardown(keeps_away, end),
		cmocka_unit_test_teardown(ends_at_once, end),
		cmocka_unit_test_teardown(at_the_edges, end),
		cmocka_unit_test(too_small),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
