/* SPDX-License-Identifier: BSD-2-Clause */
/* virtio-balloon on a memfd, as guest RAM is: what is given up is gone, its neighbours are not. */
#include "test-virtio-driver.h"
#include "devices/virtio-balloon.h"

#include <errno.h>
#include <linux/virtio_balloon.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { INFLATE, DEFLATE, STATS, REPORT, REPORT_SPEC, QUEUES };

static struct guest g;
static struct driver_queue q[QUEUES];
static char err[DEVICE_ERR];

static void boot(void)
{
	guest_start(&g);
	free(g.ram.base);
	g.ram.fd = memfd_create("ram", MFD_CLOEXEC);
	assert_int_equal(ftruncate(g.ram.fd, RAM_BYTES), 0);
	g.ram.base = mmap(NULL, RAM_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, g.ram.fd, 0);
	assert_ptr_not_equal(g.ram.base, MAP_FAILED);
	struct virtio_env env = guest_env(&g);
	guest_plug(&g, virtio_balloon_create(&env, true, err));
	assert_true(driver_negotiate(&g, device_features(&g)));
	for (unsigned i = 0; i < QUEUES; i++)
		queue_start(&q[i], &g, i, 32);
	driver_ok(&g);
}

static void end(void)
{
	uint8_t *base = g.ram.base;
	int fd = g.ram.fd;
	g.ram.base = NULL;
	guest_end(&g);
	munmap(base, RAM_BYTES);
	close(fd);
}

static uint64_t blocks(void)
{
	struct stat st;
	assert_int_equal(fstat(g.ram.fd, &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

static void inflate(const uint32_t *pfns, uint32_t count)
{
	gpa_t gpa = guest_alloc(&g, 4 * count);
	memcpy(at(&g, gpa, 4 * count), pfns, 4 * count);
	queue_add(&q[INFLATE], (struct buffer[]){{gpa, 4 * count}}, 1, 0);
	queue_kick(&q[INFLATE]);
	queue_wait(&q[INFLATE]);
}

static void test_inflate(void **state)
{
	(void)state;
	boot();
	uint8_t *p = g.ram.base + (1u << 20);
	memset(p, 0xaa, 2u << 20);
	memset(g.ram.base + LOW_BYTES, 0xbb, RAM_BYTES - LOW_BYTES);
	uint64_t before = blocks();
	/* Runs in both directions, a single page, one of the upper stretch, and numbers that are no pages of RAM. */
	static const uint32_t pfns[] = {0x100, 0x101,    0x102, 0x110, 0x10f,      0x10e,
					0x180, 0x100000, 0x2ff, 0x300, 0xffffffff, 0x100100};
	inflate(pfns, ARRAY_LEN(pfns));
	assert_int_equal(before - blocks(), 9 * PAGE_SIZE);
	assert_int_equal(p[0], 0);
	assert_int_equal(p[3 * PAGE_SIZE - 1], 0);
	assert_int_equal(p[3 * PAGE_SIZE], 0xaa);
	assert_int_equal(p[0xd * PAGE_SIZE], 0xaa);
	assert_int_equal(p[0xe * PAGE_SIZE], 0);
	assert_int_equal(p[0x11 * PAGE_SIZE - 1], 0);
	assert_int_equal(p[0x11 * PAGE_SIZE], 0xaa);
	assert_int_equal(g.ram.base[LOW_BYTES], 0);
	assert_int_equal(g.ram.base[LOW_BYTES + PAGE_SIZE], 0xbb);
	/* It comes back by being used. */
	p[0] = 1;
	queue_add(&q[DEFLATE], (struct buffer[]){{guest_alloc(&g, 4), 4}}, 1, 0);
	queue_kick(&q[DEFLATE]);
	queue_wait(&q[DEFLATE]);
	assert_false(needs_reset(&g));
	end();
}

static void test_reports(void **state)
{
	(void)state;
	struct balloon_info info;
	boot();
	uint8_t *p = g.ram.base + (1u << 20);
	for (int i = REPORT; i <= REPORT_SPEC; i++) {
		memset(p, 0xaa, 1u << 20);
		uint64_t before = blocks();
		/* Whole pages; of a part of one nothing. */
		queue_add(&q[i],
			  (struct buffer[]){{1u << 20, 16 * PAGE_SIZE},
					    {(1u << 20) + 20 * PAGE_SIZE + 1, 2 * PAGE_SIZE},
					    {(1u << 20) + 30 * PAGE_SIZE, 100}},
			  0, 3);
		queue_kick(&q[i]);
		queue_wait(&q[i]);
		assert_int_equal(before - blocks(), 17 * PAGE_SIZE);
		assert_int_equal(p[16 * PAGE_SIZE], 0xaa);
		assert_int_equal(p[21 * PAGE_SIZE - 1], 0xaa);
		assert_int_equal(p[21 * PAGE_SIZE], 0);
		assert_int_equal(p[30 * PAGE_SIZE], 0xaa);
	}
	virtio_balloon_info(g.dev, &info);
	assert_int_equal(info.returned, 34 * PAGE_SIZE);
	/* What is not RAM at all is the queue's affair. */
	queue_add(&q[REPORT], (struct buffer[]){{RAM_HIGH_BASE - PAGE_SIZE, 2 * PAGE_SIZE}}, 0, 1);
	queue_kick(&q[REPORT]);
	assert_true(needs_reset(&g));
	end();
}

static void test_target_and_statistics(void **state)
{
	(void)state;
	struct balloon_info info;
	boot();
	virtio_balloon_info(g.dev, &info);
	assert_int_equal(info.target, RAM_BYTES);
	assert_int_equal(info.used, RAM_BYTES);
	assert_int_equal(info.stats.age_ns, UINT64_MAX);
	assert_int_equal(virtio_balloon_set_target(g.dev, RAM_BYTES + 1), -ERANGE);
	assert_int_equal(virtio_balloon_set_target(g.dev, RAM_BYTES - 1), -ERANGE); /* this guest is small already */
	g.ram.size = 64u << 20;
	unsigned irqs = g.irqs;
	assert_int_equal(virtio_balloon_set_target(g.dev, 32u << 20), 0);
	assert_int_equal(g.irqs, irqs + 1);
	assert_int_equal(config_field(&g, 0, 4), (32u << 20) / PAGE_SIZE);
	bus_write(&g.bus, BUS_MMIO, VIRTIO_MMIO_BASE + VIRTIO_MMIO_CONFIG + 4, 4096, 4);
	bus_write(&g.bus, BUS_MMIO, VIRTIO_MMIO_BASE + VIRTIO_MMIO_CONFIG, 1, 4); /* not the guest's to write */
	virtio_balloon_info(g.dev, &info);
	assert_int_equal(info.target, 32u << 20);
	assert_int_equal(info.used, 48u << 20);
	/* A guest that says nonsense. */
	bus_write(&g.bus, BUS_MMIO, VIRTIO_MMIO_BASE + VIRTIO_MMIO_CONFIG + 4, UINT32_MAX, 4);
	virtio_balloon_info(g.dev, &info);
	assert_int_equal(info.used, 0);
	g.ram.size = RAM_BYTES;

	/* Statistics: a tag that nobody knows, one cut off. */
	gpa_t gpa = guest_alloc(&g, 64);
	struct virtio_balloon_stat stats[] = {{VIRTIO_BALLOON_S_MEMFREE, 1234},
					      {999, 1},
					      {VIRTIO_BALLOON_S_AVAIL, 5678},
					      {VIRTIO_BALLOON_S_MEMTOT, 1}};
	memcpy(at(&g, gpa, 64), stats, sizeof(stats));
	queue_add(&q[STATS], (struct buffer[]){{gpa, 3 * sizeof(stats[0]) + 5}}, 1, 0);
	queue_kick(&q[STATS]);
	turn(&g, 1);
	struct vring_used_elem e;
	assert_false(queue_used(&q[STATS], &e)); /* until somebody asks */
	virtio_balloon_info(g.dev, &info);
	assert_int_not_equal(info.stats.age_ns, UINT64_MAX);
	assert_int_equal(info.stats.free, 1234);
	assert_int_equal(info.stats.available, 5678);
	assert_int_equal(info.stats.total, UINT64_MAX);
	queue_wait(&q[STATS]);
	virtio_balloon_info(g.dev, &info); /* nothing to ask with: no harm */
	/* Two at once: the first comes back. */
	queue_add(&q[STATS], (struct buffer[]){{gpa, 10}}, 1, 0);
	queue_add(&q[STATS], (struct buffer[]){{gpa, 10}}, 1, 0);
	queue_kick(&q[STATS]);
	turn(&g, 1);
	virtio_balloon_info(g.dev, &info);
	queue_wait(&q[STATS]);
	queue_wait(&q[STATS]);
	reg_write(&g, VIRTIO_MMIO_STATUS, 0);
	virtio_balloon_info(g.dev, &info);
	assert_int_equal(info.used, RAM_BYTES);
	assert_int_equal(virtio_balloon_set_target(g.dev, RAM_BYTES), -ENODEV);
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_inflate),
		cmocka_unit_test(test_reports),
		cmocka_unit_test(test_target_and_statistics),
	};
	device_report_to = quiet;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
