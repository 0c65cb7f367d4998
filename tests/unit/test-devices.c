/* SPDX-License-Identifier: BSD-2-Clause */
/* Event loop, bus, byte ring, real-time clock and power ports. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "devices/bus.h"
#include "devices/byte-ring.h"
#include "devices/power.h"
#include "devices/rtc.h"
#include "loop.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* ---- loop ---- */

static struct loop *loop;
static int pipes[2][2];
static int calls[4];

static void count(void *arg, uint32_t events)
{
	(void)events;
	(*(int *)arg)++;
}

static void delete_both(void *arg, uint32_t events)
{
	count(arg, events);
	loop_del_fd(loop, pipes[0][0]);
	loop_del_fd(loop, pipes[1][0]);
	/* The second fd's number gets a new owner at once; the event that was fetched for the old one is not his. */
	assert_int_equal(loop_add_fd(loop, pipes[1][0], EPOLLIN, count, &calls[3]), 0);
}

static void open_pipes(void)
{
	memset(calls, 0, sizeof(calls));
	loop = loop_create();
	for (int i = 0; i < 2; i++)
		assert_int_equal(pipe(pipes[i]), 0);
}

static void close_pipes(void)
{
	loop_destroy(loop);
	for (int i = 0; i < 2; i++)
		for (int k = 0; k < 2; k++)
			close(pipes[i][k]);
}

static void test_loop_fds(void **state)
{
	(void)state;
	open_pipes();
	assert_int_equal(loop_add_fd(loop, pipes[0][0], EPOLLIN, delete_both, &calls[0]), 0);
	assert_int_equal(loop_add_fd(loop, pipes[1][0], EPOLLIN, delete_both, &calls[0]), 0);
	assert_int_equal(loop_add_fd(loop, pipes[1][0], EPOLLIN, count, &calls[0]), -EEXIST);
	assert_int_equal(loop_add_fd(loop, 9999, EPOLLIN, count, NULL), -EBADF);
	assert_int_equal(loop_mod_fd(loop, 9999, 0), -ENOENT);
	assert_int_equal(write(pipes[0][1], "x", 1), 1);
	assert_int_equal(write(pipes[1][1], "x", 1), 1);
	loop_turn(loop, 1000);
	assert_int_equal(calls[0], 1);
	assert_int_equal(calls[3], 0);
	loop_turn(loop, 0);
	assert_int_equal(calls[3], 1);
	/* Without events there is no report, not even of a hang-up. */
	loop_mod_fd(loop, pipes[1][0], 0);
	close(pipes[1][1]);
	pipes[1][1] = -1;
	loop_turn(loop, 0);
	assert_int_equal(calls[3], 1);
	loop_mod_fd(loop, pipes[1][0], EPOLLIN);
	loop_turn(loop, 0);
	assert_int_equal(calls[3], 2);
	close_pipes();
}

static void test_loop_regular_file(void **state)
{
	(void)state;
	open_pipes();
	FILE *f = tmpfile();
	assert_int_equal(loop_add_fd(loop, fileno(f), EPOLLIN, count, &calls[0]), 0);
	loop_turn(loop, 1000);
	loop_turn(loop, 1000);
	assert_int_equal(calls[0], 2);
	loop_mod_fd(loop, fileno(f), 0);
	loop_turn(loop, 0);
	assert_int_equal(calls[0], 2);
	loop_mod_fd(loop, fileno(f), EPOLLIN);
	loop_turn(loop, 0);
	assert_int_equal(calls[0], 3);
	loop_del_fd(loop, fileno(f));
	loop_turn(loop, 0);
	assert_int_equal(calls[0], 3);
	fclose(f);
	close_pipes();
}

static int timer;

static void on_timer(void *arg)
{
	int *n = arg;
	if (++*n == 3) {
		loop_del_timer(loop, timer); /* its own */
		loop_stop(loop, 42);
		loop_stop(loop, 43);
	}
}

static void on_once(void *arg)
{
	(*(int *)arg)++;
}

static void test_loop_timers(void **state)
{
	(void)state;
	open_pipes();
	timer = loop_add_timer_ns(loop, 5000000, 5000000, on_timer, &calls[0]);
	int once = loop_add_timer_ns(loop, 1000000, 0, on_once, &calls[1]);
	int never = loop_add_timer_ns(loop, 1000000, 0, on_once, &calls[2]);
	assert_true(timer >= 0 && once >= 0 && never >= 0);
	assert_int_equal(loop_mod_timer_ns(loop, never, 0, 0), 0);
	assert_int_equal(loop_run(loop), 42);
	assert_int_equal(calls[0], 3);
	assert_int_equal(calls[1], 1);
	assert_int_equal(calls[2], 0);
	assert_int_equal(loop_mod_timer_ns(loop, timer, 1, 0), -ENOENT);
	close_pipes();
}

static void on_signal(void *arg, int signo)
{
	assert_int_equal(signo, SIGUSR1);
	(*(int *)arg)++;
	loop_del_signal(loop, SIGUSR1, on_signal, arg);
}

static void test_loop_signals(void **state)
{
	sigset_t mask;
	(void)state;
	open_pipes();
	assert_int_equal(loop_add_signal(loop, SIGUSR1, on_signal, &calls[0]), 0);
	assert_int_equal(loop_add_signal(loop, SIGUSR1, on_signal, &calls[1]), 0);
	assert_int_equal(loop_add_signal(loop, 1000, on_signal, &calls[1]), -EINVAL);
	kill(getpid(), SIGUSR1);
	loop_turn(loop, 1000);
	kill(getpid(), SIGUSR1);
	loop_turn(loop, 1000);
	assert_int_equal(calls[0], 1);
	assert_int_equal(calls[1], 1);
	close_pipes();
	sigprocmask(SIG_SETMASK, NULL, &mask);
	assert_false(sigismember(&mask, SIGUSR1));
}

/* ---- bus ---- */

static uint64_t last_offset, last_value;
static unsigned last_size;

static uint64_t spy_read(void *dev, uint64_t offset, unsigned size)
{
	last_offset = offset;
	last_size = size;
	return (uintptr_t)dev;
}

static void spy_write(void *dev, uint64_t offset, uint64_t value, unsigned size)
{
	(void)dev;
	last_offset = offset;
	last_value = value;
	last_size = size;
}

static void test_bus(void **state)
{
	static const struct bus_ops spy = {spy_read, spy_write};
	struct bus bus;
	(void)state;
	bus_init(&bus);
	assert_int_equal(bus_add_mmio(&bus, 0x2000, 0x100, &spy, (void *)0x1234567890), 0);
	assert_int_equal(bus_add_mmio(&bus, 0x1000, 0x1000, &spy, (void *)2), 0);
	assert_int_equal(bus_add_mmio(&bus, 0x20ff, 1, &spy, NULL), -EEXIST);
	assert_int_equal(bus_add_mmio(&bus, 0xfff, 2, &spy, NULL), -EEXIST);
	assert_int_equal(bus_add_mmio(&bus, 0, UINT64_MAX, &spy, NULL), -EEXIST);
	assert_int_equal(bus_add_mmio(&bus, UINT64_MAX, 2, &spy, NULL), -EINVAL);
	assert_int_equal(bus_add_mmio(&bus, 5, 0, &spy, NULL), -EINVAL);
	assert_int_equal(bus_add_mmio(&bus, UINT64_MAX - 3, 4, &spy, (void *)7), 0);
	assert_int_equal(bus_add_ports(&bus, 0xffff, 2, &spy, NULL), -EINVAL);
	assert_int_equal(bus_add_ports(&bus, 0xfffe, 2, &spy, (void *)9), 0);

	assert_int_equal(bus_read(&bus, BUS_MMIO, 0x2000, 4), 0x34567890);
	assert_int_equal(bus_read(&bus, BUS_MMIO, 0x20fc, 1), 0x90);
	assert_int_equal(last_offset, 0xfc);
	assert_int_equal(bus_read(&bus, BUS_MMIO, 0x20fd, 4), 0xffffffff); /* over the end */
	assert_int_equal(bus_read(&bus, BUS_MMIO, 0x1ffe, 4), 0xffffffff); /* over two regions */
	assert_int_equal(bus_read(&bus, BUS_MMIO, 0x1ff8, 8), 2);
	assert_true(bus_read(&bus, BUS_MMIO, 0x3000, 8) == UINT64_MAX);
	assert_int_equal(bus_read(&bus, BUS_MMIO, UINT64_MAX - 3, 4), 7);
	assert_int_equal(bus_read(&bus, BUS_MMIO, UINT64_MAX, 4), 0xffffffff);
	assert_int_equal(bus_read(&bus, BUS_PORT, 0xfffe, 2), 9);
	assert_int_equal(bus_read(&bus, BUS_PORT, 0x1fffe, 2), 0xffff);
	for (unsigned size = 0; size < 20; size++)
		bus_read(&bus, BUS_MMIO, 0x1000, size);
	bus_read(&bus, (enum bus_space)7, 0x1000, 4);
	bus_write(&bus, BUS_MMIO, 0x1004, 0x123456789a, 2);
	assert_int_equal(last_value, 0x789a);
	assert_int_equal(last_size, 2);
	bus_write(&bus, BUS_MMIO, 0x5000, 1, 2);
	bus_fini(&bus);
}

/* ---- byte ring ---- */

#define RING 256
#define STREAM 2000000u

static struct byte_ring ring;
static uint8_t ring_bytes[RING];

static void *produce(void *arg)
{
	struct byte_ring_end *e = arg;
	for (uint32_t i = 0; i < STREAM;) {
		uint8_t bytes[100];
		for (uint32_t k = 0; k < sizeof(bytes); k++)
			bytes[k] = (uint8_t)((i + k) * 31);
		i += (uint32_t)byte_ring_write(e, bytes, STREAM - i < sizeof(bytes) ? STREAM - i : sizeof(bytes));
	}
	return NULL;
}

static void test_ring(void **state)
{
	struct byte_ring_end in, out;
	pthread_t thread;
	uint8_t bytes[64];
	(void)state;
	byte_ring_attach(&in, &ring, ring_bytes, RING);
	byte_ring_attach(&out, &ring, ring_bytes, RING);
	assert_int_equal(pthread_create(&thread, NULL, produce, &in), 0);
	for (uint32_t i = 0; i < STREAM;) {
		size_t n = byte_ring_read(&out, bytes, sizeof(bytes));
		for (size_t k = 0; k < n; k++)
			if (bytes[k] != (uint8_t)((i + k) * 31))
				fail_msg("byte %u", i + (unsigned)k);
		i += (uint32_t)n;
	}
	pthread_join(thread, NULL);
	assert_int_equal(byte_ring_used(&out), 0);
	assert_int_equal(byte_ring_room(&in), RING);
	assert_true(byte_ring_put(&in, 'a') && byte_ring_was_empty(&in, 1));
	assert_true(byte_ring_put(&in, 'b') && !byte_ring_was_empty(&in, 1));
	assert_int_equal(byte_ring_peek(&out, bytes, 10), 2);
	assert_int_equal(byte_ring_room(&in), RING - 2);
	byte_ring_consume(&out, 1);
	assert_int_equal(byte_ring_room(&in), RING - 1);
	assert_true(byte_ring_get(&out, bytes) && bytes[0] == 'b');
}

static void test_ring_hostile(void **state)
{
	struct byte_ring_end in, out;
	uint8_t bytes[RING * 2] = {0};
	(void)state;
	memset(&ring, 0, sizeof(ring));
	byte_ring_attach(&in, &ring, ring_bytes, RING);
	byte_ring_attach(&out, &ring, ring_bytes, RING);
	static const uint32_t lies[] = {1, 255, 256, 257, 0x7fffffff, 0x80000000, UINT32_MAX};
	for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
		atomic_store(&ring.head, lies[i]);
		atomic_store(&ring.tail, lies[i]);
		assert_true(byte_ring_used(&out) <= RING);
		assert_true(byte_ring_room(&in) <= RING);
		assert_true(byte_ring_read(&out, bytes, sizeof(bytes)) <= RING);
		assert_true(byte_ring_write(&in, bytes, sizeof(bytes)) <= RING);
		byte_ring_was_empty(&in, 1);
	}
}

/* ---- RTC and power ---- */

static struct bus bus;

static uint8_t cmos(uint8_t index)
{
	bus_write(&bus, BUS_PORT, 0x70, index, 1);
	return (uint8_t)bus_read(&bus, BUS_PORT, 0x71, 1);
}

static void set_cmos(uint8_t index, uint8_t value)
{
	bus_write(&bus, BUS_PORT, 0x70, index, 1);
	bus_write(&bus, BUS_PORT, 0x71, value, 1);
}

static int bcd(uint8_t v)
{
	return (v >> 4) * 10 + (v & 15);
}

static time_t cmos_time(void)
{
	uint8_t second;
	struct tm tm;
	do {
		second = cmos(0);
		tm = (struct tm){.tm_sec = bcd(second),
				 .tm_min = bcd(cmos(2)),
				 .tm_hour = bcd(cmos(4)),
				 .tm_mday = bcd(cmos(7)),
				 .tm_mon = bcd(cmos(8)) - 1,
				 .tm_year = bcd(cmos(9)) + bcd(cmos(0x32)) * 100 - 1900};
	} while (cmos(0) != second);
	return timegm(&tm);
}

static void test_rtc(void **state)
{
	(void)state;
	bus_init(&bus);
	struct rtc *rtc = rtc_create(&bus);
	assert_non_null(rtc);
	assert_int_equal(cmos(0x0d), 0x80);
	assert_int_equal(cmos(0x0a) & 0x80, 0);
	assert_int_equal(cmos(0x0b) & 0x02, 0x02);
	assert_in_range(cmos_time() - time(NULL) + 2, 0, 4);
	/* Set the clock as Linux does: 2031-05-06 23:04:05. */
	set_cmos(0x0b, 0x82);
	set_cmos(0, 0x05);
	set_cmos(2, 0x04);
	set_cmos(4, 0x23);
	set_cmos(7, 0x06);
	set_cmos(8, 0x05);
	set_cmos(9, 0x31);
	set_cmos(0x32, 0x20);
	set_cmos(0x0b, 0x02);
	struct tm tm = {.tm_sec = 5, .tm_min = 4, .tm_hour = 23, .tm_mday = 6, .tm_mon = 4, .tm_year = 131};
	assert_in_range(cmos_time() - timegm(&tm), 0, 2);
	/* Binary, 12 hours. */
	set_cmos(0x0b, 0x04);
	assert_int_equal(cmos(4), 0x80 | 11);
	assert_int_equal(cmos(9), 31);
	set_cmos(0x0b, 0x02);
	/* Memory, the alias with the NMI bit, a word write to both ports, wrong sizes. */
	set_cmos(0x40, 0x5a);
	assert_int_equal(cmos(0xc0), 0x5a);
	bus_write(&bus, BUS_PORT, 0x70, 0xa541, 2);
	assert_int_equal(cmos(0x41), 0xa5);
	bus_write(&bus, BUS_PORT, 0x70, 0x1142, 4);
	assert_int_equal(bus_read(&bus, BUS_PORT, 0x70, 2), 0xffff);
	for (unsigned i = 0; i < 256; i++)
		for (unsigned v = 0; v < 256; v += 15) {
			set_cmos((uint8_t)i, (uint8_t)v);
			cmos((uint8_t)i);
		}
	cmos_time();
	bus_fini(&bus);
	rtc_destroy(rtc);
}

static int power_events[4];

static void on_power(void *ctx, enum power_event event)
{
	(void)ctx;
	power_events[event]++;
}

static void test_power(void **state)
{
	(void)state;
	bus_init(&bus);
	struct power *p = power_create(&bus, on_power, NULL);
	assert_non_null(p);
	assert_int_equal(bus_read(&bus, BUS_PORT, POWER_PORT, 1), 'L');
	for (unsigned v = 0; v < 256; v++)
		bus_write(&bus, BUS_PORT, POWER_PORT, v, 1);
	assert_int_equal(power_events[POWER_OFF], 1);
	assert_int_equal(power_events[POWER_RESET], 1);
	assert_int_equal(power_events[POWER_PANIC], 1);
	bus_write(&bus, BUS_PORT, 0xcf9, 0x02, 1);
	bus_write(&bus, BUS_PORT, 0xcf8, 0x80000600, 4); /* PCI's address register */
	assert_int_equal(power_events[POWER_RESET], 1);
	bus_write(&bus, BUS_PORT, 0xcf9, 0x06, 1);
	assert_int_equal(power_events[POWER_RESET], 2);
	bus_write(&bus, BUS_PORT, 0xcf9, 0x06, 1);
	assert_int_equal(power_events[POWER_RESET], 2);
	assert_int_equal(bus_read(&bus, BUS_PORT, 0xcf9, 1), 0x06);
	bus_write(&bus, BUS_PORT, 0x64, 0xd1, 1);
	bus_write(&bus, BUS_PORT, 0x64, 0xfe, 1);
	assert_int_equal(power_events[POWER_RESET], 3);
	assert_int_equal(bus_read(&bus, BUS_PORT, 0x64, 1), 0);
	bus_fini(&bus);
	power_destroy(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_loop_fds),     cmocka_unit_test(test_loop_regular_file),
		cmocka_unit_test(test_loop_timers),  cmocka_unit_test(test_loop_signals),
		cmocka_unit_test(test_bus),          cmocka_unit_test(test_ring),
		cmocka_unit_test(test_ring_hostile), cmocka_unit_test(test_rtc),
		cmocka_unit_test(test_power),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
