/* SPDX-License-Identifier: BSD-2-Clause */
/* Lock prefixes of a small made-up kernel: those that its table names go, those in sites stay, a broken table does nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "ivmm-sites.h"
#include "lock_prefixes.h"

#include <string.h>

#define SIZE 0x4000u
#define LOCKS 0x2000u
#define SITES 0x3000u

static uint8_t memory[SIZE];
static const struct guest_ram ram = {.base = memory, .size = SIZE, .low = SIZE, .fd = -1};

static void name_lock(unsigned n, int64_t at)
{
	int32_t rel = (int32_t)(at - (LOCKS + 4 * n));
	memcpy(memory + LOCKS + 4 * n, &rel, 4);
}

static void name_site(unsigned n, unsigned at, uint8_t len)
{
	struct ivmm_site s = {.start = (int32_t)(at - (SITES + 8 * n)), .kind = IVMM_UACCESS, .region_len = len};
	memcpy(memory + SITES + 8 * n, &s, sizeof(s));
}

static int setup(void **state)
{
	(void)state;
	memset(memory, 0, sizeof(memory));
	for (unsigned i = 0x100; i < 0x200; i += 0x10)
		memory[i] = 0xf0;
	return 0;
}

static void test_named_ones_go(void **state)
{
	(void)state;
	name_lock(0, 0x100);
	name_lock(1, 0x130);
	assert_true(lock_prefixes_drop(&ram, LOCKS, LOCKS + 8, SITES, SITES));
	for (unsigned i = 0x100; i < 0x200; i += 0x10)
		assert_int_equal(memory[i], i == 0x100 || i == 0x130 ? 0x3e : 0xf0);
}

static void test_sites_keep_theirs(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 16; i++)
		name_lock(i, 0x100 + 0x10 * i);
	name_site(0, 0x1d0, 9); /* not in order */
	name_site(1, 0x118, 8); /* ends before 0x120 */
	name_site(2, 0x14c, 8); /* its instruction is not its first byte */
	name_site(3, 0x1a0, 1);
	assert_true(lock_prefixes_drop(&ram, LOCKS, LOCKS + 64, SITES, SITES + 32));
	for (unsigned i = 0x100; i < 0x200; i += 0x10)
		assert_int_equal(memory[i], i == 0x1d0 || i == 0x150 || i == 0x1a0 ? 0xf0 : 0x3e);
}

static void test_broken_tables(void **state)
{
	uint8_t before[SIZE];

	(void)state;
	name_lock(0, 0x101);         /* none there */
	name_lock(1, SIZE);          /* outside */
	name_lock(2, -1);            /* likewise */
	name_lock(3, LOCKS + 4 * 3); /* itself: 0 is no prefix */
	memcpy(before, memory, SIZE);
	assert_true(lock_prefixes_drop(&ram, LOCKS, LOCKS + 16, SITES, SITES));
	assert_memory_equal(memory, before, SIZE);
	assert_true(lock_prefixes_drop(&ram, 0, 0, SITES, SITES)); /* a kernel without one */
	name_lock(0, 0x100);
	memcpy(before, memory, SIZE);
	assert_true(lock_prefixes_drop(&ram, LOCKS + 4, LOCKS, SITES, SITES));
	assert_true(lock_prefixes_drop(&ram, LOCKS, SIZE + 4, SITES, SITES));
	assert_true(lock_prefixes_drop(&ram, LOCKS + 1, LOCKS + 5, SITES, SITES));
	assert_true(lock_prefixes_drop(&ram, UINT64_MAX - 3, UINT64_MAX, SITES, SITES));
	assert_memory_equal(memory, before, SIZE);
	assert_true(lock_prefixes_drop(&ram, LOCKS, LOCKS + 4, SITES + 1, SITES)); /* no usable site table */
	assert_int_equal(memory[0x100], 0x3e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_named_ones_go, setup),
		cmocka_unit_test_setup(test_sites_keep_theirs, setup),
		cmocka_unit_test_setup(test_broken_tables, setup),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
