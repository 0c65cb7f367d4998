/* SPDX-License-Identifier: BSD-2-Clause */
/* Disks behind NBD, with qemu-storage-daemon as the server: each operation, a lost server, another connection. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "devices/blk-nbd.h"
#include "storage.h"

#include <errno.h>
#include <linux/falloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SIZE 65536u

static char image[] = "test-blk-nbd-XXXXXX";
static struct loop *loop;
static struct lol_disk disk;
static struct storage server;
static struct blk_nbd *nbd;
static char why[DEVICE_ERR];

static int64_t result;

static void done(struct aio_op *op, int64_t r)
{
	(void)op;
	result = r;
}

/* What the fields hold that an operation does not use is anything at all: a request is memory that was something else before. */
static struct aio_op operation(enum aio_code code, uint64_t offset)
{
	struct aio_op op;

	memset(&op, 0x55, sizeof(op));
	op.iov = NULL;
	op.code = code;
	op.offset = offset;
	op.done = done;
	return op;
}

static int64_t perform(struct aio_op op)
{
	result = INT64_MIN;
	blk_nbd_submit(nbd, &op);
	blk_nbd_drain(nbd);
	assert_int_not_equal(result, INT64_MIN);
	return result;
}

static int64_t transfer(enum aio_code code, uint64_t offset, struct iovec *iov, unsigned n)
{
	struct aio_op op = operation(code, offset);

	op.iov = iov;
	op.iovcnt = n;
	return perform(op);
}

static int64_t zero(uint64_t offset, uint64_t len, int mode)
{
	struct aio_op op = operation(AIO_ALLOCATE, offset);

	op.len = len;
	op.mode = mode;
	return perform(op);
}

static int boot(void **state)
{
	struct lol_error err;

	(void)state;
	if (system("qemu-storage-daemon --version >/dev/null 2>&1"))
		return 0; /* each test skips */
	strcpy(image, "test-blk-nbd-XXXXXX");
	loop = loop_create();
	assert_non_null(loop);
	int fd = mkstemp(image);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, SIZE), 0);
	close(fd);
	disk = (struct lol_disk){.path = image};
	server = STORAGE_NONE;
	assert_int_equal(storage_start(&server, &disk, &err), 0);
	fd = server.fd;
	server.fd = -1;
	nbd = blk_nbd_open(loop, fd, STORAGE_EXPORT, why);
	assert_non_null(nbd);
	return 0;
}

static int end(void **state)
{
	(void)state;
	if (!nbd)
		return 0;
	blk_nbd_close(nbd);
	nbd = NULL;
	storage_stop(&server);
	loop_destroy(loop);
	unlink(image);
	return 0;
}

static void need_server(void)
{
	if (!nbd)
		skip();
}

static void test_flush_comes_first(void **state)
{
	(void)state;
	need_server();
	assert_int_equal(blk_nbd_size(nbd), SIZE);
	assert_int_equal(perform(operation(AIO_SYNC, 0)), 0);
}

static void test_zeroes_come_first(void **state)
{
	(void)state;
	need_server();
	assert_int_equal(zero(4096, 8192, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE), 0);
	assert_int_equal(zero(0, 4096, FALLOC_FL_KEEP_SIZE | FALLOC_FL_ZERO_RANGE), 0);
}

static void test_data(void **state)
{
	char one[4096], three[3][512], back[4096];
	struct iovec whole = {one, sizeof(one)}, read_back = {back, sizeof(back)};
	struct iovec parts[3] = {{three[0], 512}, {three[1], 512}, {three[2], 512}};

	(void)state;
	need_server();
	memset(one, 'o', sizeof(one));
	for (int i = 0; i < 3; i++)
		memset(three[i], 'a' + i, 512);
	assert_int_equal(transfer(AIO_WRITE, 0, &whole, 1), 4096);
	assert_int_equal(transfer(AIO_WRITE, 1024, parts, 3), 1536);
	assert_int_equal(perform(operation(AIO_SYNC, 0)), 0);
	assert_int_equal(transfer(AIO_READ, 0, &read_back, 1), 4096);
	memcpy(one + 1024, three, 1536);
	assert_memory_equal(one, back, 4096);
	memset(three, 0, sizeof(three));
	assert_int_equal(transfer(AIO_READ, 1024, parts, 3), 1536);
	assert_memory_equal(three, one + 1024, 1536);
	assert_int_equal(zero(1024, 512, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE), 0);
	memset(one + 1024, 0, 512);
	assert_int_equal(transfer(AIO_READ, 0, &read_back, 1), 4096);
	assert_memory_equal(one, back, 4096);
}

static void test_beyond_the_end(void **state)
{
	char data[1024];
	struct iovec iov = {data, sizeof(data)};

	(void)state;
	need_server();
	assert_true(transfer(AIO_READ, SIZE - 512, &iov, 1) < 0);
	assert_true(transfer(AIO_WRITE, SIZE, &iov, 1) < 0);
	assert_true(zero(SIZE, 512, 0) < 0);
	assert_int_equal(transfer(AIO_READ, SIZE - 1024, &iov, 1), 1024);
}

static void test_server_killed(void **state)
{
	char data[1024];
	struct iovec iov = {data, sizeof(data)};

	(void)state;
	need_server();
	assert_int_equal(kill(server.pid, SIGKILL), 0);
	assert_int_equal(transfer(AIO_READ, 0, &iov, 1), -EIO);
	assert_int_equal(perform(operation(AIO_SYNC, 0)), -EIO);
	assert_int_equal(zero(0, 512, 0), -EIO);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_flush_comes_first, boot, end),
		cmocka_unit_test_setup_teardown(test_zeroes_come_first, boot, end),
		cmocka_unit_test_setup_teardown(test_data, boot, end),
		cmocka_unit_test_setup_teardown(test_beyond_the_end, boot, end),
		cmocka_unit_test_setup_teardown(test_server_killed, boot, end),
	};

	return cmocka_run_group_tests_name("blk-nbd", tests, NULL, NULL);
}
