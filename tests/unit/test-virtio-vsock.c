/* SPDX-License-Identifier: BSD-2-Clause */
/* virtio-vsock with a driver of the test's own on one side and unix sockets on the other. */
#include "test-virtio-driver.h"
#include "devices/virtio-vsock.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_vsock.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define HDR sizeof(struct virtio_vsock_hdr)
#define CID 77
#define OUR_ALLOC 4096u

enum { RX, TX, EVENTS, QUEUES };

static struct guest g;
static struct driver_queue q[QUEUES];
static char err[DEVICE_ERR], dir[] = "/tmp/test-virtio-vsock-XXXXXX", path[64];

static void boot(void)
{
	guest_start(&g);
	struct virtio_env env = guest_env(&g);
	guest_plug(&g, virtio_vsock_create(&env, path, CID, err));
	assert_int_equal(config_field(&g, 0, 8), CID);
	assert_true(driver_negotiate(&g, device_features(&g)));
	queue_start(&q[RX], &g, RX, 128);
	queue_start(&q[TX], &g, TX, 128);
	queue_start(&q[EVENTS], &g, EVENTS, 16);
	driver_ok(&g);
}

static void offer(unsigned n)
{
	while (n--)
		queue_add(&q[RX], (struct buffer[]){{guest_alloc(&g, 4096), 4096}}, 0, 1);
	queue_kick(&q[RX]);
}

static void say_header(struct virtio_vsock_hdr h, const void *payload, uint32_t len)
{
	gpa_t keep = g.next, gpa = guest_alloc(&g, HDR + len);
	memcpy(at(&g, gpa, HDR), &h, HDR);
	if (len)
		memcpy(at(&g, gpa + HDR, len), payload, len);
	queue_add(&q[TX], (struct buffer[]){{gpa, (uint32_t)HDR + len}}, 1, 0);
	queue_kick(&q[TX]);
	queue_wait(&q[TX]);
	g.next = keep;
}

static void say(uint32_t guest_port, uint32_t host_port, uint16_t op, const void *payload, uint32_t len)
{
	say_header((struct virtio_vsock_hdr){.src_cid = CID,
					     .dst_cid = 2,
					     .src_port = guest_port,
					     .dst_port = host_port,
					     .len = len,
					     .type = VIRTIO_VSOCK_TYPE_STREAM,
					     .op = op,
					     .buf_alloc = OUR_ALLOC},
		   payload, len);
}

/* The next packet; its payload in body. */
static struct virtio_vsock_hdr hear(uint8_t body[4096])
{
	struct virtio_vsock_hdr h;
	struct vring_used_elem e = queue_wait(&q[RX]);
	const uint8_t *p = at(&g, q[RX].desc[e.id].addr, 4096);
	memcpy(&h, p, HDR);
	assert_int_equal(e.len, HDR + h.len);
	assert_int_equal(h.src_cid, 2);
	assert_int_equal(h.dst_cid, CID);
	if (body)
		memcpy(body, p + HDR, h.len);
	return h;
}

static struct virtio_vsock_hdr hear_op(uint16_t op)
{
	struct virtio_vsock_hdr h = hear(NULL);
	assert_int_equal(h.op, op);
	return h;
}

static bool silent(void)
{
	struct vring_used_elem e;
	turn(&g, 5);
	return !queue_used(&q[RX], &e);
}

static int unix_socket(const char *suffix, bool listening)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	snprintf(a.sun_path, sizeof(a.sun_path), "%s%s", path, suffix);
	if (listening)
		assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)) | listen(fd, 16), 0);
	else
		assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	return fd;
}

static int listener(void)
{
	return unix_socket("_1000", true);
}

static void remove_listener(int fd)
{
	char name[80];
	snprintf(name, sizeof(name), "%s_1000", path);
	close(fd);
	unlink(name);
}

/* Guest port 5 to host port 1000; the host's end. */
static int connect_host(int l)
{
	say(5, 1000, VIRTIO_VSOCK_OP_REQUEST, NULL, 0);
	struct virtio_vsock_hdr h = hear_op(VIRTIO_VSOCK_OP_RESPONSE);
	assert_int_equal(h.src_port, 1000);
	assert_int_equal(h.dst_port, 5);
	assert_true(h.buf_alloc > 0);
	int fd = accept(l, NULL, NULL);
	assert_true(fd >= 0);
	return fd;
}

static void test_guest_to_host(void **state)
{
	(void)state;
	uint8_t body[4096];
	char text[64] = "";
	boot();
	offer(40);
	say(5, 1000, VIRTIO_VSOCK_OP_REQUEST, NULL, 0); /* nobody is there */
	hear_op(VIRTIO_VSOCK_OP_RST);
	int l = listener(), fd = connect_host(l);
	say(5, 1000, VIRTIO_VSOCK_OP_RW, "hello", 5);
	assert_int_equal(read(fd, text, sizeof(text)), 5);
	assert_string_equal(text, "hello");
	assert_int_equal(write(fd, "hi there", 8), 8);
	struct virtio_vsock_hdr h = hear(body);
	assert_int_equal(h.op, VIRTIO_VSOCK_OP_RW);
	assert_int_equal(h.fwd_cnt, 5);
	assert_memory_equal(body, "hi there", 8);
	/* Half an end on each side, then the whole. */
	shutdown(fd, SHUT_WR);
	assert_int_equal(hear_op(VIRTIO_VSOCK_OP_SHUTDOWN).flags, VIRTIO_VSOCK_SHUTDOWN_SEND);
	say(5, 1000, VIRTIO_VSOCK_OP_RW, "still", 5);
	assert_int_equal(read(fd, text, sizeof(text)), 5);
	say_header((struct virtio_vsock_hdr){.src_cid = CID,
					     .dst_cid = 2,
					     .src_port = 5,
					     .dst_port = 1000,
					     .type = 1,
					     .op = VIRTIO_VSOCK_OP_SHUTDOWN,
					     .flags = 3},
		   NULL, 0);
	hear_op(VIRTIO_VSOCK_OP_RST);
	assert_int_equal(read(fd, text, sizeof(text)), 0);
	close(fd);
	/* The host's side goes at once. */
	fd = connect_host(l);
	close(fd);
	h = hear_op(VIRTIO_VSOCK_OP_SHUTDOWN);
	assert_int_equal(h.flags, 3);
	say(5, 1000, VIRTIO_VSOCK_OP_RST, NULL, 0);
	say(5, 1000, VIRTIO_VSOCK_OP_RW, "x", 1); /* of a connection that is no more */
	hear_op(VIRTIO_VSOCK_OP_RST);
	assert_true(silent());
	remove_listener(l);
	guest_end(&g);
	assert_int_equal(access(path, F_OK), -1);
}

static void test_host_to_guest(void **state)
{
	(void)state;
	char text[64] = "";
	boot();
	offer(40);
	int fd = unix_socket("", false);
	assert_int_equal(write(fd, "CONN", 4), 4);
	assert_true(silent());
	assert_int_equal(write(fd, "ECT 22\nearly", 12), 12);
	struct virtio_vsock_hdr h = hear_op(VIRTIO_VSOCK_OP_REQUEST);
	assert_int_equal(h.dst_port, 22);
	say(22, h.src_port, VIRTIO_VSOCK_OP_RESPONSE, NULL, 0);
	hear_op(VIRTIO_VSOCK_OP_RW);
	assert_true(read(fd, text, sizeof(text)) > 4);
	assert_int_equal(strncmp(text, "OK ", 3), 0);
	assert_int_equal(strtoul(text + 3, NULL, 10), h.src_port);
	say(22, h.src_port, VIRTIO_VSOCK_OP_RW, "answer", 6);
	assert_int_equal(read(fd, text, sizeof(text)), 6);
	close(fd);
	hear_op(VIRTIO_VSOCK_OP_SHUTDOWN);
	/* Refused. */
	fd = unix_socket("", false);
	assert_int_equal(write(fd, "CONNECT 23\n", 11), 11);
	h = hear_op(VIRTIO_VSOCK_OP_REQUEST);
	say(23, h.src_port, VIRTIO_VSOCK_OP_RST, NULL, 0);
	assert_int_equal(read(fd, text, sizeof(text)), 0);
	close(fd);
	static const char *const bad[] = {"HELLO\n",
					  "CONNECT\n",
					  "CONNECT x\n",
					  "CONNECT 1x\n",
					  "CONNECT 1 2\n",
					  "\n",
					  "CONNECT 111111111111111111111111111111111111\n"};
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		fd = unix_socket("", false);
		assert_int_equal(write(fd, bad[i], strlen(bad[i])), strlen(bad[i]));
		turn(&g, 5);
		assert_true(read(fd, text, sizeof(text)) <= 0);
		close(fd);
	}
	assert_true(silent());
	guest_end(&g);
}

/* The guest's room is never exceeded, and what it reads makes room. */
static void test_credit_of_the_guest(void **state)
{
	(void)state;
	static uint8_t bytes[3 * OUR_ALLOC];
	boot();
	offer(60);
	int l = listener(), fd = connect_host(l);
	assert_int_equal(write(fd, bytes, sizeof(bytes)), sizeof(bytes));
	uint32_t got = 0, asked = 0;
	while (got < OUR_ALLOC || !asked) {
		struct virtio_vsock_hdr h = hear(NULL);
		asked += h.op == VIRTIO_VSOCK_OP_CREDIT_REQUEST;
		got += h.op == VIRTIO_VSOCK_OP_RW ? h.len : 0;
	}
	assert_int_equal(got, OUR_ALLOC);
	/* No room yet: it does not ask again and again. */
	say(5, 1000, VIRTIO_VSOCK_OP_CREDIT_UPDATE, NULL, 0);
	assert_true(silent());
	for (uint32_t read_so_far = 1000; got < sizeof(bytes); read_so_far = got) {
		say_header((struct virtio_vsock_hdr){.src_cid = CID,
						     .dst_cid = 2,
						     .src_port = 5,
						     .dst_port = 1000,
						     .type = 1,
						     .op = VIRTIO_VSOCK_OP_CREDIT_UPDATE,
						     .buf_alloc = OUR_ALLOC,
						     .fwd_cnt = read_so_far},
			   NULL, 0);
		uint32_t limit = MIN(read_so_far + OUR_ALLOC, (uint32_t)sizeof(bytes));
		while (got < limit) {
			struct virtio_vsock_hdr h = hear(NULL);
			got += h.op == VIRTIO_VSOCK_OP_RW ? h.len : 0;
		}
		assert_int_equal(got, limit);
		turn(&g, 3);
	}
	close(fd);
	remove_listener(l);
	guest_end(&g);
}

/* A host that does not read: the guest is told how much we have room for, and loses the connection when it takes more. */
static void test_credit_of_the_host(void **state)
{
	(void)state;
	static uint8_t bytes[4096];
	boot();
	offer(60);
	int l = listener(), fd = connect_host(l);
	uint32_t sent = 0, alloc = 0, forwarded = 0;
	say(5, 1000, VIRTIO_VSOCK_OP_CREDIT_REQUEST, NULL, 0);
	alloc = hear_op(VIRTIO_VSOCK_OP_CREDIT_UPDATE).buf_alloc;
	for (int i = 0; i < 1000; i++) {
		struct vring_used_elem e;
		while (queue_used(&q[RX], &e)) {
			struct virtio_vsock_hdr h;
			memcpy(&h, at(&g, q[RX].desc[e.id].addr, HDR), HDR);
			assert_int_equal(h.op, VIRTIO_VSOCK_OP_CREDIT_UPDATE);
			forwarded = h.fwd_cnt;
			offer(1);
		}
		if (sent + sizeof(bytes) - forwarded > alloc)
			break;
		memset(bytes, i, sizeof(bytes));
		say(5, 1000, VIRTIO_VSOCK_OP_RW, bytes, sizeof(bytes));
		sent += sizeof(bytes);
		turn(&g, 1);
	}
	assert_true(sent > alloc / 2);
	/* Everything arrives, in order. */
	for (uint32_t got = 0; got < sent;) {
		ssize_t n = recv(fd, bytes, sizeof(bytes) - got % sizeof(bytes), MSG_DONTWAIT);
		if (n > 0) {
			assert_int_equal(bytes[0], (uint8_t)(got / sizeof(bytes)));
			got += (uint32_t)n;
		}
		loop_turn(g.loop, 0);
	}
	/* And now too much. */
	for (int i = 0; i < 1000; i++) {
		struct vring_used_elem e;
		struct virtio_vsock_hdr h = {0};
		say(5, 1000, VIRTIO_VSOCK_OP_RW, bytes, sizeof(bytes));
		if (queue_used(&q[RX], &e)) {
			memcpy(&h, at(&g, q[RX].desc[e.id].addr, HDR), HDR);
			offer(1);
		}
		if (h.op == VIRTIO_VSOCK_OP_RST)
			break;
		assert_true(i < 999);
	}
	close(fd);
	remove_listener(l);
	guest_end(&g);
}

static void test_hostile(void **state)
{
	(void)state;
	boot();
	int l = listener();
	/* Requests without end, and no buffers for the answers. */
	for (uint32_t i = 0; i < 1500; i++) {
		say(i, 1000, VIRTIO_VSOCK_OP_REQUEST, NULL, 0);
		int fd = i % 8 ? -1 : accept4(l, NULL, NULL, SOCK_NONBLOCK);
		if (fd >= 0)
			close(fd);
		say(i, 9, 77, NULL, 0);
	}
	/* Somebody else's packets, another kind, a length that is not there. */
	say_header((struct virtio_vsock_hdr){.src_cid = 4, .dst_cid = 2, .type = 1, .op = 1}, NULL, 0);
	say_header((struct virtio_vsock_hdr){.src_cid = CID, .dst_cid = 9, .type = 1, .op = 1}, NULL, 0);
	say_header((struct virtio_vsock_hdr){.src_cid = CID, .dst_cid = 2, .type = 2, .op = 1}, NULL, 0);
	say_header((struct virtio_vsock_hdr){.src_cid = CID,
					     .dst_cid = 2,
					     .src_port = 0,
					     .dst_port = 1000,
					     .type = 1,
					     .op = 5,
					     .len = 99999},
		   "x", 1);
	assert_false(needs_reset(&g));
	offer(100);
	for (int i = 0; i < 50; i++)
		hear(NULL);
	gpa_t gpa = guest_alloc(&g, 64);
	queue_add(&q[TX], (struct buffer[]){{gpa, HDR - 1}}, 1, 0);
	queue_kick(&q[TX]);
	assert_true(needs_reset(&g));
	reg_write(&g, VIRTIO_MMIO_STATUS, 0);
	remove_listener(l);
	guest_end(&g);

	/* A receive buffer that holds no header. */
	boot();
	queue_add(&q[RX], (struct buffer[]){{gpa, HDR - 1}}, 0, 1);
	say(5, 7, VIRTIO_VSOCK_OP_REQUEST, NULL, 0);
	assert_true(needs_reset(&g));
	guest_end(&g);
}

static void test_paths(void **state)
{
	(void)state;
	struct virtio_env env;
	guest_start(&g);
	env = guest_env(&g);
	/* A dead socket is taken over, a file is not, a living one neither. */
	int fd = unix_socket("", true);
	assert_null(virtio_vsock_create(&env, path, CID, err));
	assert_non_null(strstr(err, "listens there"));
	close(fd);
	guest_plug(&g, virtio_vsock_create(&env, path, CID, err));
	guest_end(&g);
	fd = open(path, O_CREAT | O_WRONLY, 0600);
	guest_start(&g);
	env = guest_env(&g);
	assert_null(virtio_vsock_create(&env, path, CID, err));
	assert_non_null(strstr(err, "not a socket"));
	close(fd);
	unlink(path);
	g.dev = NULL;
	guest_end(&g);
}

static int make_dir(void **state)
{
	(void)state;
	device_report_to = quiet;
	if (!mkdtemp(dir))
		return -1;
	snprintf(path, sizeof(path), "%s/v", dir);
	return 0;
}

static int remove_dir(void **state)
{
	(void)state;
	return rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_guest_to_host),
		cmocka_unit_test(test_host_to_guest),
		cmocka_unit_test(test_credit_of_the_guest),
		cmocka_unit_test(test_credit_of_the_host),
		cmocka_unit_test(test_hostile),
		cmocka_unit_test(test_paths),
	};
	return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
