/* SPDX-License-Identifier: BSD-2-Clause */
/* Persistent memory: where it is in guest memory, and the device's flush requests. */
#include "test-virtio-driver.h"
#include "devices/virtio-pmem.h"

#include <fcntl.h>
#include <linux/virtio_pmem.h>
#include <stdio.h>
#include <unistd.h>

static struct guest g;
static struct driver_queue q;
static char err[DEVICE_ERR];
static int fd;

static void boot(bool ro, int file)
{
	guest_start(&g);
	struct virtio_env env = guest_env(&g);
	struct pmem_config c = {
		.path = "p", .fd = file, .gpa = 5ull << 30, .size = 4 << 20, .ro = ro, .engine = AIO_THREADS};
	guest_plug(&g, virtio_pmem_create(&env, &c, err));
	assert_true(driver_negotiate(&g, device_features(&g)));
	queue_start(&q, &g, 0, 64);
	driver_ok(&g);
}

static uint32_t request(uint32_t type)
{
	gpa_t gpa = guest_alloc(&g, 8);
	uint32_t *p = at(&g, gpa, 8);
	p[0] = type;
	p[1] = 0x55555555;
	queue_add(&q, (struct buffer[]){{gpa, 4}, {gpa + 4, 4}}, 1, 1);
	queue_kick(&q);
	assert_int_equal(queue_wait(&q).len, 4);
	return p[1];
}

static void test_flush(void **state)
{
	(void)state;
	for (int ro = 0; ro < 2; ro++) {
		boot(ro, fd);
		assert_int_equal(config_field(&g, 0, 8), 5ull << 30);
		assert_int_equal(config_field(&g, 8, 8), 4 << 20);
		for (int i = 0; i < 200; i++)
			assert_int_equal(request(VIRTIO_PMEM_REQ_TYPE_FLUSH), 0);
		assert_int_not_equal(request(1), 0);
		guest_end(&g);
	}
}

static void test_host_error(void **state)
{
	int p[2];
	(void)state;
	assert_int_equal(pipe(p), 0);
	boot(false, p[1]); /* fsync of a pipe: EINVAL */
	assert_int_not_equal(request(VIRTIO_PMEM_REQ_TYPE_FLUSH), 0);
	guest_end(&g);
	close(p[0]);
	close(p[1]);
}

static void test_broken_driver(void **state)
{
	(void)state;
	boot(false, fd);
	gpa_t gpa = guest_alloc(&g, 8);
	queue_add(&q, (struct buffer[]){{gpa, 4}, {gpa + 4, 2}}, 1, 1);
	queue_kick(&q);
	turn(&g, 1);
	assert_true(needs_reset(&g));
	guest_end(&g);
	boot(false, fd);
	queue_add(&q, (struct buffer[]){{gpa, 2}, {gpa + 4, 4}}, 1, 1);
	queue_kick(&q);
	turn(&g, 1);
	assert_true(needs_reset(&g));
	guest_end(&g);
}

/* Guest memory with files in it: every page has one place, nothing crosses an end. */
static void test_places(void **state)
{
	struct guest_ram ram = {.base = (uint8_t *)0x10000, .size = 4ull << 30, .low = 3ull << 30, .fd = -1};
	(void)state;
	assert_int_equal(ram_span(&ram), ram.size);
	gpa_t base = ram_pmem_base(&ram);
	assert_true(base >= RAM_HIGH_BASE + (1ull << 30) && base % RAM_PMEM_ALIGN == 0);
	assert_true(base > ram.size + (64 << 20)); /* behind what lies behind RAM in its memfd */
	ram.npmem = 2;
	ram.pmem[0] = (struct ram_pmem){base, 64 << 20, true};
	ram.pmem[1] = (struct ram_pmem){base + (1ull << 30), 4 << 20, false};
	assert_int_equal(ram_span(&ram), base + (1ull << 30) + (4 << 20));
	assert_int_equal(ram_offset(&ram, 0, 1), 0);
	assert_int_equal(ram_offset(&ram, RAM_HIGH_BASE, 1), 3ull << 30);
	assert_int_equal(ram_offset(&ram, base, 64 << 20), base);
	assert_int_equal(ram_offset(&ram, base, (64 << 20) + 1), UINT64_MAX);
	assert_int_equal(ram_offset(&ram, base - 1, 2), UINT64_MAX);
	assert_int_equal(ram_offset(&ram, base + (64 << 20), 1), UINT64_MAX);
	assert_int_equal(ram_offset(&ram, UINT64_MAX, 8), UINT64_MAX);
	assert_int_equal(ram_offset(&ram, base, UINT64_MAX), UINT64_MAX);
	uint64_t off = base + (1ull << 30) + 4096;
	assert_int_equal(ram_file(&ram, &off), 1);
	assert_int_equal(off, 4096);
	off = ram.size + 4096;
	assert_int_equal(ram_file(&ram, &off), -1);
	assert_int_equal(off, ram.size + 4096);
	assert_true(ram_ro(&ram, base + 5));
	assert_false(ram_ro(&ram, base + (1ull << 30)));
	assert_false(ram_ro(&ram, 5));
}

int main(void)
{
	char path[] = "test-virtio-pmem-XXXXXX";
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_flush),
		cmocka_unit_test(test_host_error),
		cmocka_unit_test(test_broken_driver),
		cmocka_unit_test(test_places),
	};
	device_report_to = quiet;
	fd = mkstemp(path);
	unlink(path);
	if (fd < 0 || ftruncate(fd, 4 << 20))
		return 99;
	return cmocka_run_group_tests_name("persistent memory", tests, NULL, NULL);
}
