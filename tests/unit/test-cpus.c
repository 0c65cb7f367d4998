/* SPDX-License-Identifier: BSD-2-Clause */
/* The order of host CPUs, with trees in the place of sysfs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "cpus.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

static char root[] = "/tmp/test-cpus-XXXXXX";

static void put(int cpu, const char *folder, const char *file, const char *text)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/cpu%d", root, cpu);
	mkdir(path, 0700);
	for (const char *p = folder; *p; p++)
		if (p[1] == '/' || !p[1]) {
			snprintf(path, sizeof(path), "%s/cpu%d/%.*s", root, cpu, (int)(p + 1 - folder), folder);
			mkdir(path, 0700);
		}
	snprintf(path, sizeof(path), "%s/cpu%d/%s/%s", root, cpu, folder, file);
	FILE *f = fopen(path, "w");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static void check(const int *from, unsigned n, int here, const int *expected)
{
	int cpu[64];

	for (unsigned i = 0; i < n; i++)
		cpu[i] = from[i];
	cpus_order(root, cpu, n, here);
	for (unsigned i = 0; i < n; i++)
		assert_int_equal(cpu[i], expected[i]);
}
#define ORDER(n, here, from, ...) check((const int[])from, n, here, (const int[]){__VA_ARGS__})
#define LIST(...) \
	{ \
		__VA_ARGS__ \
	}

static void test_nothing_known(void **state)
{
	(void)state;
	ORDER(1, 0, LIST(0), 0);
	ORDER(2, 0, LIST(0, 1), 0, 1);
	ORDER(2, 1, LIST(0, 1), 1, 0);
	ORDER(4, 2, LIST(0, 1, 2, 3), 2, 3, 0, 1);
	ORDER(3, 7, LIST(4, 5, 6), 4, 5, 6); /* moved meanwhile to where we may not be */
	ORDER(0, 0, LIST(0), 0);
}

/* Two caches of two cores of two threads each, threads of a core numbered side by side or far apart. */
static void test_topology(void **state)
{
	(void)state;
	put(8, "topology", "thread_siblings_list", "8-9\n");
	put(8, "cache/index3", "shared_cpu_list", "8-11\n");
	ORDER(8, 8, LIST(8, 9, 10, 11, 12, 13, 14, 15), 8, 10, 11, 12, 13, 14, 15, 9);
	put(20, "topology", "thread_siblings_list", "16,20\n");
	put(20, "cache/index3", "shared_cpu_list", "16-17,20-21\n");
	ORDER(8, 20, LIST(16, 17, 18, 19, 20, 21, 22, 23), 20, 21, 17, 22, 23, 18, 19, 16);
	ORDER(2, 20, LIST(16, 20), 20, 16);
	put(30, "topology", "thread_siblings_list", "30\n"); /* alone with its cache */
	put(30, "cache/index3", "shared_cpu_list", "30\n");
	ORDER(2, 30, LIST(29, 30), 30, 29);
}

static void test_broken(void **state)
{
	static const char *const texts[] = {"", "\n", "-", "9999999999999999999999-1", "0-99999", "x", "1,,2", "3-1"};

	(void)state;
	for (unsigned i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		int cpu[] = {40, 41, 42};
		put(40, "topology", "thread_siblings_list", texts[i]);
		put(40, "cache/index3", "shared_cpu_list", texts[i]);
		cpus_order(root, cpu, 3, 40);
		assert_int_equal(cpu[0], 40);
		assert_int_equal(cpu[1] + cpu[2], 83);
	}
}

static int remove_root(void **state)
{
	char command[64];

	(void)state;
	snprintf(command, sizeof(command), "rm -rf %s", root);
	return system(command);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nothing_known),
		cmocka_unit_test(test_topology),
		cmocka_unit_test(test_broken),
	};

	return mkdtemp(root) ? cmocka_run_group_tests(tests, NULL, remove_root) : 1;
}
