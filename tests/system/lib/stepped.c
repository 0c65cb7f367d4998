/* SPDX-License-Identifier: BSD-2-Clause */
/* For tests/system/gdb-points.sh: functions to break in, and a field that is overwritten now and then. */
#include <stdio.h>
#include <unistd.h>

volatile long counter;
struct item {
	int id;
	long value;
} items[4];

__attribute__((noinline)) int leaf(int x)
{
	counter++;
	return x * 2 + 1;
}

__attribute__((noinline)) int middle(int x)
{
	int r = leaf(x + 1);
	items[x & 3].value = r;
	return r + 1;
}

int main(void)
{
	int sum = 0;

	for (int i = 0; i < 2000; i++) {
		sum += middle(i);
		getppid();
	}
	printf("sum %d counter %ld\n", sum, counter);
	return 0;
}
