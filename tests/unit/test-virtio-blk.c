/* SPDX-License-Identifier: BSD-2-Clause */
/* virtio-blk through its queue: each request type, errors, snapshots, locks, both I/O engines, and broken drivers. */
#include "test-virtio-driver.h"
#include "devices/virtio-blk.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <linux/virtio_blk.h>
#include <stdio.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define DISK_SECTORS 2048u

static struct guest g;
static struct driver_queue q;
static char path[64];
static char err[DEVICE_ERR];
static enum aio_engine engine;
static const uint64_t all = ~UINT64_C(0);

static uint8_t pattern(uint64_t sector, unsigned i)
{
	return (uint8_t)(sector * 7 + i + 1);
}

static void make_disk(void)
{
	strcpy(path, "test-virtio-blk-XXXXXX");
	int fd = mkstemp(path);
	assert_true(fd >= 0);
	uint8_t sector[512];
	for (unsigned s = 0; s < DISK_SECTORS; s++) {
		for (unsigned i = 0; i < 512; i++)
			sector[i] = pattern(s, i);
		assert_int_equal(write(fd, sector, 512), 512);
	}
	close(fd);
}

static struct virtio_dev *create(bool ro, bool snapshot)
{
	struct virtio_env env = guest_env(&g);
	struct blk_config c = {.path = path, .serial = "SERIAL-1", .ro = ro, .snapshot = snapshot, .engine = engine};
	return virtio_blk_create(&env, &c, err);
}

static void boot(bool ro, bool snapshot, uint64_t features)
{
	guest_start(&g);
	guest_plug(&g, create(ro, snapshot));
	assert_true(driver_negotiate(&g, device_features(&g) & features));
	queue_start(&q, &g, 0, 256);
	driver_ok(&g);
}

static void shutdown(void)
{
	guest_end(&g);
	unlink(path);
}

/* One request with up to one data buffer; header and status get buffers of their own. Returns the status byte's address. */
static gpa_t request(uint32_t type, uint64_t sector, gpa_t data, uint32_t len, bool in)
{
	gpa_t header = guest_alloc(&g, 17);
	struct virtio_blk_outhdr h = {.type = type, .sector = sector};
	memcpy(at(&g, header, 16), &h, 16);
	*(uint8_t *)at(&g, header + 16, 1) = 0xee;
	struct buffer b[3] = {{header, 16}, {data, len}, {header + 16, 1}};
	if (!len) {
		b[1] = b[2];
		queue_add(&q, b, 1, 1);
	} else {
		queue_add(&q, b, in ? 1 : 2, in ? 2 : 1);
	}
	return header + 16;
}

static uint8_t run(uint32_t type, uint64_t sector, gpa_t data, uint32_t len, bool in, uint32_t *written)
{
	gpa_t status = request(type, sector, data, len, in);
	queue_kick(&q);
	struct vring_used_elem e = queue_wait(&q);
	if (written)
		*written = e.len;
	return *(uint8_t *)at(&g, status, 1);
}

static void expect_sectors(uint64_t sector, unsigned count, int fixed)
{
	gpa_t data = guest_alloc(&g, count * 512);
	uint32_t written;
	memset(at(&g, data, count * 512), 0xcc, count * 512);
	assert_int_equal(run(VIRTIO_BLK_T_IN, sector, data, count * 512, true, &written), VIRTIO_BLK_S_OK);
	assert_int_equal(written, count * 512 + 1);
	uint8_t *p = at(&g, data, count * 512);
	for (unsigned i = 0; i < count * 512; i++)
		assert_int_equal(p[i], fixed >= 0 ? fixed : pattern(sector + i / 512, i % 512));
}

static void write_sectors(uint64_t sector, unsigned count, uint8_t value)
{
	gpa_t data = guest_alloc(&g, count * 512);
	uint32_t written;
	memset(at(&g, data, count * 512), value, count * 512);
	assert_int_equal(run(VIRTIO_BLK_T_OUT, sector, data, count * 512, false, &written), VIRTIO_BLK_S_OK);
	assert_int_equal(written, 1);
}

static uint8_t ranges(uint32_t type, const struct virtio_blk_discard_write_zeroes *r, unsigned n)
{
	gpa_t data = guest_alloc(&g, n * sizeof(*r));
	memcpy(at(&g, data, n * sizeof(*r)), r, n * sizeof(*r));
	return run(type, 0, data, (uint32_t)(n * sizeof(*r)), false, NULL);
}

static void file_sector(uint64_t sector, int fixed)
{
	uint8_t p[512];
	int fd = open(path, O_RDONLY);
	assert_int_equal(pread(fd, p, 512, (off_t)sector * 512), 512);
	close(fd);
	for (unsigned i = 0; i < 512; i++)
		assert_int_equal(p[i], fixed >= 0 ? fixed : pattern(sector, i));
}

static void test_basic(void **state)
{
	(void)state;
	make_disk();
	boot(false, false, all);
	assert_int_equal(reg_read(&g, VIRTIO_MMIO_DEVICE_ID), 2);
	assert_int_equal(config_field(&g, 0, 8), DISK_SECTORS);
	assert_int_equal(config_field(&g, offsetof(struct virtio_blk_config, blk_size), 4), 512);
	expect_sectors(0, 1, -1);
	expect_sectors(1000, 64, -1);
	write_sectors(10, 3, 0x5a);
	expect_sectors(9, 1, -1);
	expect_sectors(10, 3, 0x5a);
	expect_sectors(13, 1, -1);
	file_sector(11, 0x5a);
	assert_int_equal(run(VIRTIO_BLK_T_FLUSH, 0, 0, 0, false, NULL), VIRTIO_BLK_S_OK);

	gpa_t id = guest_alloc(&g, 20);
	assert_int_equal(run(VIRTIO_BLK_T_GET_ID, 0, id, 20, true, NULL), VIRTIO_BLK_S_OK);
	assert_string_equal(at(&g, id, 20), "SERIAL-1");
	assert_int_equal(run(99, 0, 0, 0, false, NULL), VIRTIO_BLK_S_UNSUPP);
	assert_true(g.irqs > 0);
	assert_int_equal(g.isr & 1, 1);
	assert_false(needs_reset(&g));
	shutdown();
}

static void test_out_of_range(void **state)
{
	(void)state;
	make_disk();
	boot(false, false, all);
	gpa_t data = guest_alloc(&g, 4096);
	static const struct {
		uint64_t sector;
		uint32_t len;
	} bad[] = {{DISK_SECTORS, 512},
		   {DISK_SECTORS - 1, 1024},
		   {UINT64_MAX, 512},
		   {UINT64_MAX / 512, 4096},
		   {0, 511},
		   {0, 1},
		   {1, 513}};
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		assert_int_equal(run(VIRTIO_BLK_T_IN, bad[i].sector, data, bad[i].len, true, NULL), VIRTIO_BLK_S_IOERR);
		assert_int_equal(run(VIRTIO_BLK_T_OUT, bad[i].sector, data, bad[i].len, false, NULL),
				 VIRTIO_BLK_S_IOERR);
	}
	expect_sectors(DISK_SECTORS - 1, 1, -1);
	shutdown();
}

static void test_ranges(void **state)
{
	(void)state;
	make_disk();
	boot(false, false, all);
	struct virtio_blk_discard_write_zeroes r[33] = {{.sector = 8, .num_sectors = 16},
							{.sector = 100, .num_sectors = 3}};
	assert_int_equal(ranges(VIRTIO_BLK_T_WRITE_ZEROES, r, 1), VIRTIO_BLK_S_OK);
	expect_sectors(7, 1, -1);
	expect_sectors(8, 16, 0);
	expect_sectors(24, 1, -1);
	r[0].flags = VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP;
	r[0].sector = 200;
	assert_int_equal(ranges(VIRTIO_BLK_T_WRITE_ZEROES, r, 1), VIRTIO_BLK_S_OK);
	expect_sectors(200, 16, 0);
	assert_int_equal(ranges(VIRTIO_BLK_T_DISCARD, r, 2), VIRTIO_BLK_S_UNSUPP);
	r[0].flags = 0;
	assert_int_equal(ranges(VIRTIO_BLK_T_DISCARD, r, 2), VIRTIO_BLK_S_OK);
	r[0].flags = 0x80000000;
	assert_int_equal(ranges(VIRTIO_BLK_T_WRITE_ZEROES, r, 1), VIRTIO_BLK_S_UNSUPP);
	r[0].flags = 0;
	assert_int_equal(ranges(VIRTIO_BLK_T_WRITE_ZEROES, r, 2), VIRTIO_BLK_S_IOERR);
	assert_int_equal(ranges(VIRTIO_BLK_T_DISCARD, r, 33), VIRTIO_BLK_S_IOERR);
	r[0] = (struct virtio_blk_discard_write_zeroes){.sector = DISK_SECTORS - 1, .num_sectors = 2};
	assert_int_equal(ranges(VIRTIO_BLK_T_DISCARD, r, 1), VIRTIO_BLK_S_IOERR);
	r[0] = (struct virtio_blk_discard_write_zeroes){.sector = UINT64_MAX, .num_sectors = UINT32_MAX};
	assert_int_equal(ranges(VIRTIO_BLK_T_WRITE_ZEROES, r, 1), VIRTIO_BLK_S_IOERR);
	shutdown();
}

/* tmpfs has no FALLOC_FL_ZERO_RANGE: zeroes are written. */
static void test_zeroes_by_writing(void **state)
{
	(void)state;
	strcpy(path, "/dev/shm/test-virtio-blk-XXXXXX");
	int fd = mkstemp(path);
	if (fd < 0)
		skip();
	assert_int_equal(ftruncate(fd, 4 << 20), 0);
	close(fd);
	boot(false, false, all);
	write_sectors(0, 1, 0x44);
	write_sectors(5000, 600, 0x55);
	struct virtio_blk_discard_write_zeroes r = {.sector = 1, .num_sectors = 5500};
	assert_int_equal(ranges(VIRTIO_BLK_T_WRITE_ZEROES, &r, 1), VIRTIO_BLK_S_OK);
	expect_sectors(0, 1, 0x44);
	expect_sectors(5000, 501, 0);
	expect_sectors(5501, 99, 0x55);
	shutdown();
}

static void test_read_only(void **state)
{
	(void)state;
	make_disk();
	assert_int_equal(chmod(path, 0444), 0);
	boot(true, false, all);
	assert_true(device_features(&g) >> VIRTIO_BLK_F_RO & 1);
	expect_sectors(5, 2, -1);
	gpa_t data = guest_alloc(&g, 512);
	struct virtio_blk_discard_write_zeroes r = {.sector = 8, .num_sectors = 16};
	assert_int_equal(run(VIRTIO_BLK_T_OUT, 0, data, 512, false, NULL), VIRTIO_BLK_S_IOERR);
	assert_int_equal(ranges(VIRTIO_BLK_T_DISCARD, &r, 1), VIRTIO_BLK_S_IOERR);
	assert_int_equal(ranges(VIRTIO_BLK_T_WRITE_ZEROES, &r, 1), VIRTIO_BLK_S_IOERR);
	assert_int_equal(run(VIRTIO_BLK_T_FLUSH, 0, 0, 0, false, NULL), VIRTIO_BLK_S_OK);
	shutdown();
}

static void test_snapshot(void **state)
{
	(void)state;
	make_disk();
	assert_int_equal(chmod(path, 0444), 0);
	boot(false, true, all);
	write_sectors(10, 1, 0x11);
	write_sectors(12, 2, 0x22);
	write_sectors(60, 200, 0x33);
	struct virtio_blk_discard_write_zeroes r = {.sector = 100, .num_sectors = 50};
	assert_int_equal(ranges(VIRTIO_BLK_T_WRITE_ZEROES, &r, 1), VIRTIO_BLK_S_OK);
	assert_int_equal(run(VIRTIO_BLK_T_FLUSH, 0, 0, 0, false, NULL), VIRTIO_BLK_S_OK);

	/* One read over all the pieces. */
	gpa_t data = guest_alloc(&g, 300 * 512);
	assert_int_equal(run(VIRTIO_BLK_T_IN, 0, data, 300 * 512, true, NULL), VIRTIO_BLK_S_OK);
	uint8_t *p = at(&g, data, 300 * 512);
	for (unsigned i = 0; i < 300 * 512; i++) {
		unsigned s = i / 512;
		uint8_t want = s == 10               ? 0x11
			       : s == 12 || s == 13  ? 0x22
			       : s >= 100 && s < 150 ? 0
			       : s >= 60 && s < 260  ? 0x33
						     : pattern(s, i % 512);
		assert_int_equal(p[i], want);
	}
	file_sector(10, -1);
	file_sector(100, -1);
	shutdown();
}

/* Data in many odd-sized pieces: the framing means nothing (2.7.4.1). Header and status share descriptors with data. */
static void test_framing(void **state)
{
	(void)state;
	make_disk();
	boot(false, false, all);
	gpa_t head = guest_alloc(&g, 16 + 100), rest = guest_alloc(&g, 1024);
	struct virtio_blk_outhdr h = {.type = VIRTIO_BLK_T_OUT, .sector = 20};
	memcpy(at(&g, head, 16), &h, 16);
	memset(at(&g, head + 16, 100), 0x77, 100);
	memset(at(&g, rest, 924), 0x77, 924);
	gpa_t status = guest_alloc(&g, 1);
	struct buffer out[] = {{head, 7},     {head + 7, 50},  {head + 57, 59}, {rest, 1},
			       {rest + 1, 0}, {rest + 1, 923}, {status, 1}};
	queue_add(&q, out, 6, 1);
	queue_kick(&q);
	queue_wait(&q);
	assert_int_equal(*(uint8_t *)at(&g, status, 1), VIRTIO_BLK_S_OK);
	expect_sectors(20, 2, 0x77);

	h.type = VIRTIO_BLK_T_IN;
	memcpy(at(&g, head, 16), &h, 16);
	gpa_t in = guest_alloc(&g, 1025);
	struct buffer b[] = {{head, 16}, {in, 1}, {in + 1, 511}, {in + 512, 513}};
	queue_add(&q, b, 1, 3);
	queue_kick(&q);
	assert_int_equal(queue_wait(&q).len, 1025);
	uint8_t *p = at(&g, in, 1025);
	for (unsigned i = 0; i < 1024; i++)
		assert_int_equal(p[i], 0x77);
	assert_int_equal(p[1024], VIRTIO_BLK_S_OK);
	shutdown();
}

static void test_many_in_flight(void **state)
{
	(void)state;
	make_disk();
	boot(false, false, all & ~(UINT64_C(1) << VIRTIO_RING_F_EVENT_IDX));
	gpa_t data[80], status[80];
	for (unsigned i = 0; i < 80; i++) {
		data[i] = guest_alloc(&g, 4096);
		status[i] = request(VIRTIO_BLK_T_IN, i * 8, data[i], 4096, true);
	}
	queue_kick(&q);
	for (unsigned i = 0; i < 80; i++)
		assert_int_equal(queue_wait(&q).len, 4097);
	for (unsigned i = 0; i < 80; i++) {
		assert_int_equal(*(uint8_t *)at(&g, status[i], 1), VIRTIO_BLK_S_OK);
		uint8_t *p = at(&g, data[i], 4096);
		for (unsigned k = 0; k < 4096; k++)
			assert_int_equal(p[k], pattern(i * 8 + k / 512, k % 512));
	}
	shutdown();
}

static void test_reset_in_flight(void **state)
{
	(void)state;
	make_disk();
	boot(false, false, all);
	for (int round = 0; round < 20; round++) {
		g.next = 1 << 20;
		for (unsigned i = 0; i < 60; i++)
			request(i & 1 ? VIRTIO_BLK_T_IN : VIRTIO_BLK_T_FLUSH, i, guest_alloc(&g, 4096),
				i & 1 ? 4096 : 0, true);
		queue_kick(&q);
		reg_write(&g, VIRTIO_MMIO_STATUS, 0);
		uint16_t used = q.used->idx;
		memset(at(&g, 1 << 20, 1 << 20), 0xab, 1 << 20);
		turn(&g, 3);
		assert_int_equal(q.used->idx, used);
		for (unsigned i = 0; i < 1 << 20; i += 64)
			assert_int_equal(*(uint8_t *)at(&g, (1 << 20) + i, 1), 0xab);
		assert_true(driver_negotiate(&g, device_features(&g)));
		g.next = PAGE_SIZE; /* the queue below the memory that is checked */
		queue_start(&q, &g, 0, 256);
		driver_ok(&g);
	}
	expect_sectors(3, 1, -1);
	shutdown();
}

static void test_write_through(void **state)
{
	(void)state;
	make_disk();
	boot(false, false, all & ~(UINT64_C(1) << VIRTIO_BLK_F_FLUSH));
	write_sectors(4, 2, 0x99);
	struct virtio_blk_discard_write_zeroes r = {.sector = 100, .num_sectors = 50};
	assert_int_equal(ranges(VIRTIO_BLK_T_WRITE_ZEROES, &r, 1), VIRTIO_BLK_S_OK);
	expect_sectors(4, 2, 0x99);
	shutdown();
}

static void test_host_errors(void **state)
{
	(void)state;
	make_disk();
	boot(false, false, all);
	gpa_t data = guest_alloc(&g, 8192);
	/* The file shrinks under us. */
	assert_int_equal(truncate(path, 1024 * 512 + 100), 0);
	assert_int_equal(run(VIRTIO_BLK_T_IN, 1500, data, 4096, true, NULL), VIRTIO_BLK_S_IOERR);
	assert_int_equal(run(VIRTIO_BLK_T_IN, 1020, data, 8192, true, NULL), VIRTIO_BLK_S_IOERR);
	expect_sectors(1023, 1, -1);
	/* A full disk looks the same to us as a file size limit: an errno of write. */
	struct rlimit old, limit = {.rlim_cur = 1024 * 512, .rlim_max = RLIM_INFINITY};
	getrlimit(RLIMIT_FSIZE, &old);
	limit.rlim_max = old.rlim_max;
	signal(SIGXFSZ, SIG_IGN);
	setrlimit(RLIMIT_FSIZE, &limit);
	uint32_t written;
	assert_int_equal(run(VIRTIO_BLK_T_OUT, 1500, data, 4096, false, &written), VIRTIO_BLK_S_IOERR);
	assert_int_equal(written, 1);
	setrlimit(RLIMIT_FSIZE, &old);
	assert_int_equal(run(VIRTIO_BLK_T_OUT, 1500, data, 4096, false, NULL), VIRTIO_BLK_S_OK);
	assert_false(needs_reset(&g));
	shutdown();
}

static void expect_error(bool ro, bool snapshot, const char *words)
{
	err[0] = 0;
	assert_null(create(ro, snapshot));
	if (!strstr(err, words) || !strstr(err, path) || strchr(err, '\n'))
		fail_msg("'%s' has no '%s'", err, words);
}

static void test_images(void **state)
{
	(void)state;
	guest_start(&g);
	strcpy(path, "no-such-file");
	expect_error(false, false, "no such file; make one");
	strcpy(path, ".");
	expect_error(false, false, "is a directory");
	expect_error(true, false, "is a directory");
	strcpy(path, "/dev/null");
	expect_error(false, false, "neither a file nor a block device");
	make_disk();
	assert_int_equal(truncate(path, 0), 0);
	expect_error(false, false, "is empty");
	assert_int_equal(truncate(path, 1000), 0);
	expect_error(false, false, "not a multiple of 512");
	assert_int_equal(truncate(path, 1024), 0);
	if (geteuid() != 0) {
		assert_int_equal(chmod(path, 0444), 0);
		expect_error(false, false, "add ',ro' or ',snapshot'");
		assert_int_equal(chmod(path, 0), 0);
		expect_error(true, false, "cannot open");
		assert_int_equal(chmod(path, 0600), 0);
	}
	setenv("TMPDIR", "/no/such/dir", 1);
	err[0] = 0;
	assert_null(create(false, true));
	assert_non_null(strstr(err, "set TMPDIR"));
	unsetenv("TMPDIR");
	shutdown();
}

static void test_locks(void **state)
{
	(void)state;
	make_disk();
	guest_start(&g);
	struct virtio_dev *writer = create(false, false);
	assert_non_null(writer);
	expect_error(false, false, "in use by another process");
	expect_error(true, false, "open for writing");
	expect_error(false, true, "open for writing");
	virtio_destroy(writer);
	struct virtio_dev *a = create(true, false), *b = create(false, true);
	assert_non_null(a);
	assert_non_null(b);
	expect_error(false, false, "in use by another process");
	virtio_destroy(a);
	virtio_destroy(b);
	writer = create(false, false);
	assert_non_null(writer);
	virtio_destroy(writer);
	shutdown();
}

static void test_broken_requests(void **state)
{
	(void)state;
	make_disk();
	boot(false, false, all);
	gpa_t header = guest_alloc(&g, 64);
	/* No status byte. */
	queue_add(&q, (struct buffer[]){{header, 16}}, 1, 0);
	queue_kick(&q);
	assert_true(needs_reset(&g));
	assert_int_equal(g.isr & 2, 2);
	guest_end(&g);
	boot(false, false, all);
	/* A short header. */
	header = guest_alloc(&g, 64);
	queue_add(&q, (struct buffer[]){{header, 15}, {header + 16, 1}}, 1, 1);
	queue_kick(&q);
	assert_true(needs_reset(&g));
	/* A reset makes it whole again. */
	assert_true(driver_negotiate(&g, device_features(&g)));
	assert_false(needs_reset(&g));
	queue_start(&q, &g, 0, 256);
	driver_ok(&g);
	expect_sectors(1, 1, -1);
	shutdown();
}

static unsigned lines;

static void count_verbose(enum report_level level, const char *line)
{
	assert_int_equal(level, REPORT_VERBOSE);
	assert_non_null(strstr(line, "refuses io_uring (Operation not permitted), using worker threads"));
	lines++;
}

/* As under Docker's default profile. The filter stays, so this is the last test. */
static void test_uring_refused(void **state)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {ARRAY_LEN(code), code};
	(void)state;
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
		skip();
	engine = AIO_AUTO;
	device_report_to = count_verbose;
	make_disk();
	boot(false, false, all);
	assert_int_equal(lines, 1);
	expect_sectors(3, 2, -1);
	write_sectors(10, 3, 0x5a);
	assert_int_equal(run(VIRTIO_BLK_T_FLUSH, 0, 0, 0, false, NULL), VIRTIO_BLK_S_OK);
	assert_int_equal(lines, 1);
	device_report_to = quiet;
	shutdown();
}

static int with_threads(void **state)
{
	(void)state;
	engine = AIO_THREADS;
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_basic),           cmocka_unit_test(test_out_of_range),
		cmocka_unit_test(test_ranges),          cmocka_unit_test(test_zeroes_by_writing),
		cmocka_unit_test(test_read_only),       cmocka_unit_test(test_snapshot),
		cmocka_unit_test(test_framing),         cmocka_unit_test(test_many_in_flight),
		cmocka_unit_test(test_reset_in_flight), cmocka_unit_test(test_write_through),
		cmocka_unit_test(test_host_errors),     cmocka_unit_test(test_images),
		cmocka_unit_test(test_locks),           cmocka_unit_test(test_broken_requests),
	};
	device_report_to = quiet;
	int failed = cmocka_run_group_tests_name("virtio-blk, io_uring where the host has it", tests, NULL, NULL);
	failed += cmocka_run_group_tests_name("virtio-blk, worker threads", tests, with_threads, NULL);
	const struct CMUnitTest last[] = {cmocka_unit_test(test_uring_refused)};
	return failed + cmocka_run_group_tests_name("virtio-blk, io_uring refused", last, NULL, NULL);
}
