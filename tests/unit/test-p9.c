/* SPDX-License-Identifier: BSD-2-Clause */
/* Shares: what of a guest's 9P messages reaches the server, and the device between guest and server. */
#include "test-virtio-driver.h"
#include "devices/virtio-9p.h"

#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#define CAP (P9_MSIZE_MAX + 4096u)

static uint8_t msg[CAP];
static uint32_t len;
static const struct p9_policy rw = {false, 1000, 1001, ""}, ro = {true, 1000, 1001, ""},
			      deep = {false, 1000, 1001, "/srv/x"};

/* ---- messages ---- */

static void put(uint64_t value, unsigned bytes)
{
	while (bytes--) {
		msg[len++] = (uint8_t)value;
		value >>= 8;
	}
}

static void put_string(const char *s)
{
	put(strlen(s), 2);
	memcpy(msg + len, s, strlen(s));
	len += (uint32_t)strlen(s);
}

/* Layout: 1 2 4 8 integers (unsigned long long), s a string. */
static void build(uint8_t type, const char *layout, ...)
{
	va_list ap;
	va_start(ap, layout);
	len = P9_HEADER;
	for (; *layout; layout++) {
		if (*layout == 's')
			put_string(va_arg(ap, const char *));
		else
			put(va_arg(ap, unsigned long long), (unsigned)(*layout - '0'));
	}
	va_end(ap);
	uint32_t end = len;
	len = 0;
	put(end, 4);
	put(type, 1);
	put(77, 2);
	len = end;
}

static int ask(const struct p9_policy *policy)
{
	return p9_request(policy, msg, &len, CAP);
}

static uint32_t word(unsigned offset)
{
	uint32_t v;
	memcpy(&v, msg + P9_HEADER + offset, 4);
	return v;
}

static void test_writes_on_ro(void **state)
{
	(void)state;
	for (int i = 0; i < 2; i++) {
		const struct p9_policy *p = i ? &ro : &rw;
		int want = i ? EROFS : 0;
		build(14, "4s444", 1ull, "f", 2ull, 0644ull, 0ull);
		assert_int_equal(ask(p), want);
		build(16, "4ss4", 1ull, "l", "../../etc/passwd",
		      0ull); /* a link may say anything: the guest follows it */
		assert_int_equal(ask(p), want);
		build(18, "4s4444", 1ull, "fifo", 0010644ull, 0ull, 0ull, 0ull);
		assert_int_equal(ask(p), want);
		build(20, "44s", 1ull, 2ull, "n");
		assert_int_equal(ask(p), want);
		build(26, "4444488888", 1ull, 1ull, 0644ull, 0ull, 0ull, 0ull, 0ull, 0ull, 0ull, 0ull);
		assert_int_equal(ask(p), want);
		build(32, "4s84", 1ull, "user.a", 10ull, 0ull);
		assert_int_equal(ask(p), want);
		build(70, "44s", 1ull, 2ull, "hard");
		assert_int_equal(ask(p), want);
		build(72, "4s44", 1ull, "d", 0755ull, 0ull);
		assert_int_equal(ask(p), want);
		build(74, "4s4s", 1ull, "a", 2ull, "b");
		assert_int_equal(ask(p), want);
		build(76, "4s4", 1ull, "a", 0ull);
		assert_int_equal(ask(p), want);
		build(118, "484", 1ull, 0ull, 0ull);
		assert_int_equal(ask(p), want);
		build(122, "4", 1ull);
		assert_int_equal(ask(p), want);
		build(12, "44", 1ull, 1ull); /* O_WRONLY */
		assert_int_equal(ask(p), want);
		build(12, "44", 1ull, 2ull);
		assert_int_equal(ask(p), want);
		build(12, "44", 1ull, 3ull);
		assert_int_equal(ask(p), want);
		build(12, "44", 1ull, 01000ull); /* O_TRUNC */
		assert_int_equal(ask(p), want);
		build(12, "44", 1ull, 0100000ull); /* O_RDONLY | O_LARGEFILE */
		assert_int_equal(ask(p), 0);
		build(116, "484", 1ull, 0ull, 4096ull);
		assert_int_equal(ask(p), 0);
	}
}

static void test_names(void **state)
{
	static const char *const bad[] = {"", ".", "..", "/", "a/b", "../x", "/etc/passwd"};
	static const char *const good_names[] = {"a", "...", "..a", ".a", "a b\n", "\xff"};
	(void)state;
	for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
		build(72, "4s44", 1ull, bad[i], 0755ull, 0ull);
		assert_int_not_equal(ask(&rw), 0);
		build(74, "4s4s", 1ull, "a", 2ull, bad[i]);
		assert_int_not_equal(ask(&rw), 0);
		build(110, "442ss", 1ull, 2ull, 2ull, "a", bad[i]);
		assert_int_not_equal(ask(&rw), 0);
	}
	for (unsigned i = 0; i < ARRAY_LEN(good_names); i++) {
		build(110, "442ss", 1ull, 2ull, 2ull, "a", good_names[i]);
		assert_int_equal(ask(&rw), 0);
	}
	build(72, "4s44", 1ull, "axb", 0755ull, 0ull);
	msg[P9_HEADER + 4 + 2 + 1] = 0; /* a NUL in a name */
	assert_int_not_equal(ask(&rw), 0);
	char name[300];
	memset(name, 'n', 256);
	name[256] = 0;
	build(72, "4s44", 1ull, name, 0755ull, 0ull);
	assert_int_equal(ask(&rw), ENAMETOOLONG);
}

static void test_owners(void **state)
{
	(void)state;
	build(72, "4s44", 1ull, "d", 0755ull, 5ull);
	assert_int_equal(ask(&rw), 0);
	assert_int_equal(word(4 + 3 + 4), 1001);
	/* chown to root is chown to the user; to anybody else it cannot be. */
	build(26, "4444488888", 1ull, 6ull, 0ull, 0ull, 0ull, 0ull, 0ull, 0ull, 0ull, 0ull);
	assert_int_equal(ask(&rw), 0);
	assert_int_equal(word(12), 1000);
	assert_int_equal(word(16), 1001);
	build(26, "4444488888", 1ull, 2ull, 0ull, 1ull, 0ull, 0ull, 0ull, 0ull, 0ull, 0ull);
	assert_int_equal(ask(&rw), EPERM);
	build(26, "4444488888", 1ull, 4ull, 0ull, 0ull, 1ull, 0ull, 0ull, 0ull, 0ull, 0ull);
	assert_int_equal(ask(&rw), EPERM);
	/* Devices are none of an ordinary user's. */
	build(18, "4s4444", 1ull, "n", 0020644ull, 1ull, 3ull, 0ull);
	assert_int_equal(ask(&rw), EPERM);
	build(18, "4s4444", 1ull, "n", 0060644ull, 1ull, 3ull, 0ull);
	assert_int_equal(ask(&rw), EPERM);

	build(25, "818884448", 0ull, 0ull, 0ull, 0ull, 0ull, 0ull, 0ull, 0ull, 0ull);
	len = P9_HEADER + 153;
	memset(msg + P9_HEADER, 0x55, 153);
	put(0, 0);
	msg[0] = (uint8_t)len;
	assert_true(p9_reply(msg, len));
	assert_int_equal(word(8 + 13), 0x55555555);
	assert_int_equal(word(8 + 13 + 4), 0);
	assert_int_equal(word(8 + 13 + 8), 0);
	msg[0]--;
	assert_false(p9_reply(msg, len));
	assert_false(p9_reply(msg, len - 1));
}

static void test_attach(void **state)
{
	static const char *const wishes[] = {"", "/", "/etc", "ctl", "../..", "/a/../../b"};
	(void)state;
	for (unsigned i = 0; i < ARRAY_LEN(wishes); i++) {
		build(104, "44ss4", 1ull, 0xffffffffull, "root", wishes[i], 0ull);
		assert_int_equal(ask(&rw), 0);
		assert_int_equal(len, P9_HEADER + 8 + 2 + 2 + 1 + 4);
		assert_int_equal(p9_size(msg), len);
		assert_memory_equal(msg + P9_HEADER + 8, "\0\0\1\0/", 5);
		assert_int_equal(word(8 + 5), 1000);
		build(104, "44ss4", 1ull, 0xffffffffull, "root", wishes[i], 0ull);
		assert_int_equal(ask(&deep), 0);
		assert_memory_equal(msg + P9_HEADER + 8, "\0\0\6\0/srv/x", 10);
		assert_int_equal(word(8 + 10), 1000);
	}
}

static void test_lengths(void **state)
{
	(void)state;
	build(116, "484", 1ull, 0ull, 0xffffffffull);
	assert_int_equal(ask(&rw), EINVAL);
	build(40, "484", 1ull, 0ull, 0x80000000ull);
	assert_int_equal(ask(&rw), EINVAL);
	build(118, "484", 1ull, 0ull, 8ull); /* without its data */
	assert_int_equal(ask(&rw), EINVAL);
	build(118, "4848", 1ull, 0ull, 8ull, 0ull);
	assert_int_equal(ask(&rw), 0);
	build(118, "48481", 1ull, 0ull, 8ull, 0ull, 0ull); /* a byte too many */
	assert_int_equal(ask(&rw), EINVAL);
	build(32, "4s84", 1ull, "user.a", 1ull << 40, 0ull);
	assert_int_equal(ask(&rw), E2BIG);
	build(110, "442", 1ull, 2ull, 17ull);
	assert_int_equal(ask(&rw), EINVAL);
	build(100, "4s", 1ull << 31, "9P2000.L");
	assert_int_equal(ask(&rw), 0);
	assert_int_equal(word(0), P9_MSIZE_MAX);
	build(102, "4ss4", 1ull, "", "", 0ull); /* auth */
	assert_int_equal(ask(&rw), EOPNOTSUPP);
	for (unsigned type = 0; type < 256; type++) {
		build((uint8_t)type, "");
		assert_int_not_equal(ask(&rw), 0);
	}
}

/* ---- the device ---- */

static struct guest g;
static struct driver_queue q;
static int server;
static char err[DEVICE_ERR];
static gpa_t out_gpa, in_gpa;

static void boot(void)
{
	int fd[2];
	guest_start(&g);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fd), 0);
	server = fd[1];
	struct virtio_env env = guest_env(&g);
	struct p9_config c = {.dir = "/some/where", .tag = "a tag", .fd = fd[0], .policy = rw};
	guest_plug(&g, virtio_9p_create(&env, &c, err));
	assert_true(driver_negotiate(&g, device_features(&g)));
	queue_start(&q, &g, 0, 128);
	driver_ok(&g);
	out_gpa = guest_alloc(&g, 4096);
	in_gpa = guest_alloc(&g, 4096);
}

static void shutdown_all(void)
{
	guest_end(&g);
	if (server >= 0)
		close(server);
}

static void request(unsigned n, uint16_t tag)
{
	p9_set_tag(msg, tag);
	memcpy(at(&g, out_gpa + n * 256, len), msg, len);
	queue_add(&q, (struct buffer[]){{out_gpa + n * 256, len}, {in_gpa + n * 256, 128}}, 1, 1);
	queue_kick(&q);
}

/* What the server gets; returns its tag. */
static uint16_t receive(uint8_t type)
{
	uint8_t m[256];
	turn(&g, 2);
	assert_int_equal(recv(server, m, 4, MSG_DONTWAIT), 4);
	assert_int_equal(recv(server, m + 4, p9_size(m) - 4, MSG_DONTWAIT), p9_size(m) - 4);
	assert_int_equal(m[4], type);
	return p9_tag(m);
}

static void reply(uint8_t type, uint16_t tag)
{
	uint8_t m[] = {7, 0, 0, 0, type, (uint8_t)tag, (uint8_t)(tag >> 8)};
	assert_int_equal(write(server, m, sizeof(m)), sizeof(m));
}

static void expect_answer(unsigned n, uint8_t type, uint16_t tag)
{
	struct vring_used_elem e = queue_wait(&q);
	const uint8_t *m = at(&g, in_gpa + n * 256, 11);
	assert_int_equal(e.len, type == P9_RLERROR ? 11 : 7);
	assert_int_equal(m[4], type);
	assert_int_equal(p9_tag(m), tag);
}

static void test_device(void **state)
{
	(void)state;
	boot();
	assert_int_equal(config_field(&g, 0, 2), 5);
	assert_int_equal(config_field(&g, 2, 1), 'a');
	/* Two under way, answered the other way round. */
	build(120, "4", 1ull);
	request(0, 500);
	build(120, "4", 2ull);
	request(1, 501);
	uint16_t first = receive(120), second = receive(120);
	assert_int_not_equal(first, second);
	reply(121, second);
	expect_answer(1, 121, 501);
	reply(121, first);
	expect_answer(0, 121, 500);
	/* Refused here: the server does not hear of it. */
	build(102, "4ss4", 1ull, "", "", 0ull);
	request(0, 7);
	expect_answer(0, P9_RLERROR, 7);
	assert_int_equal(recv(server, msg, 1, MSG_DONTWAIT), -1);
	shutdown_all();
}

static void test_flush(void **state)
{
	(void)state;
	boot();
	build(120, "4", 1ull);
	request(0, 40);
	uint16_t old = receive(120);
	build(108, "2", 40ull);
	request(1, 41);
	uint16_t flush = receive(108);
	(void)old;
	/* The server may never answer what was flushed; its buffers come back all the same. */
	reply(109, flush);
	expect_answer(0, P9_RLERROR, 40);
	expect_answer(1, 109, 41);
	shutdown_all();
}

static void test_reset_under_way(void **state)
{
	(void)state;
	struct vring_used_elem e;
	boot();
	build(120, "4", 1ull);
	request(0, 40);
	uint16_t old = receive(120);
	reg_write(&g, VIRTIO_MMIO_STATUS, 0);
	assert_true(driver_negotiate(&g, device_features(&g)));
	queue_start(&q, &g, 0, 128);
	driver_ok(&g);
	request(0, 40);
	uint16_t new = receive(120);
	assert_int_not_equal(old, new);
	memset(at(&g, in_gpa, 128), 0xee, 128);
	reply(121, old);
	turn(&g, 3);
	assert_false(queue_used(&q, &e));
	assert_int_equal(*(uint8_t *)at(&g, in_gpa, 1), 0xee);
	reply(121, new);
	expect_answer(0, 121, 40);
	shutdown_all();
}

static void test_server_gone(void **state)
{
	(void)state;
	boot();
	build(120, "4", 1ull);
	request(0, 1);
	receive(120);
	close(server);
	server = -1;
	expect_answer(0, P9_RLERROR, 1);
	request(1, 2);
	expect_answer(1, P9_RLERROR, 2);
	shutdown_all();
}

static void test_server_nonsense(void **state)
{
	static const uint8_t bad[][7] = {{3, 0, 0, 0, 121, 0, 0},
					 {7, 0, 0, 0, 121, 99, 0},
					 {7, 0, 0, 0, 120, 0, 0},
					 {0xff, 0xff, 0xff, 0xff, 121, 0, 0}};
	(void)state;
	for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
		boot();
		build(120, "4", 1ull);
		request(0, 1);
		receive(120);
		assert_int_equal(write(server, bad[i], 7), 7);
		expect_answer(0, P9_RLERROR, 1);
		shutdown_all();
	}
}

static void test_broken_driver(void **state)
{
	(void)state;
	boot();
	queue_add(&q, (struct buffer[]){{out_gpa, 6}, {in_gpa, 128}}, 1, 1); /* no whole header */
	queue_kick(&q);
	turn(&g, 1);
	assert_true(needs_reset(&g));
	shutdown_all();
	boot();
	build(120, "4", 1ull);
	memcpy(at(&g, out_gpa, len), msg, len);
	*(uint8_t *)at(&g, out_gpa, 1) = 200; /* says that it is longer than it is */
	queue_add(&q, (struct buffer[]){{out_gpa, len}, {in_gpa, 128}}, 1, 1);
	queue_kick(&q);
	expect_answer(0, P9_RLERROR, 77);
	shutdown_all();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_writes_on_ro),  cmocka_unit_test(test_names),
		cmocka_unit_test(test_owners),        cmocka_unit_test(test_attach),
		cmocka_unit_test(test_lengths),       cmocka_unit_test(test_device),
		cmocka_unit_test(test_flush),         cmocka_unit_test(test_reset_under_way),
		cmocka_unit_test(test_server_gone),   cmocka_unit_test(test_server_nonsense),
		cmocka_unit_test(test_broken_driver),
	};
	device_report_to = quiet;
	return cmocka_run_group_tests_name("shares", tests, NULL, NULL);
}
