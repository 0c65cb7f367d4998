/* SPDX-License-Identifier: BSD-2-Clause */
/* virtio-console and virtio-rng through their queues. */
#include "test-virtio-driver.h"
#include "devices/virtio-console.h"
#include "devices/virtio-rng.h"

#include <linux/virtio_console.h>

#define PORTS 3

enum { IN0, OUT0, CTL_IN, CTL_OUT, IN1, OUT1, IN2, OUT2, QUEUES };

static struct guest g;
static struct driver_queue q[QUEUES];

/* The host's side of a port, as a test sees it. */
struct host {
	char out[1 << 16];
	size_t len, room; /* room: bytes it still takes */
	int opened;       /* -1: never told */
	unsigned rooms, drained;
};
static struct host host[PORTS];
static char err[DEVICE_ERR];

static size_t host_output(void *ctx, const uint8_t *bytes, size_t len)
{
	struct host *h = ctx;
	size_t n = MIN(len, h->room);
	assert_true(h->len + n <= sizeof(h->out));
	memcpy(h->out + h->len, bytes, n);
	h->len += n;
	h->room -= n;
	return n;
}

static void host_room(void *ctx)
{
	((struct host *)ctx)->rooms++;
}

static void host_opened(void *ctx, bool open)
{
	((struct host *)ctx)->opened = open;
}

static void host_drained(void *ctx)
{
	((struct host *)ctx)->drained++;
}

static const struct console_port_ops host_ops = {
	.output = host_output, .input_room = host_room, .opened = host_opened, .drained = host_drained};

static void plug(void)
{
	guest_start(&g);
	struct virtio_env env = guest_env(&g);
	struct console_port_config ports[PORTS] = {
		{NULL, &host_ops, &host[0]}, {"first", &host_ops, &host[1]}, {"second", &host_ops, &host[2]}};
	for (int i = 0; i < PORTS; i++) {
		memset(&host[i], 0, sizeof(host[i]));
		host[i].room = SIZE_MAX;
		host[i].opened = -1;
	}
	guest_plug(&g, virtio_console_create(&env, ports, PORTS, err));
}

static void start_queues(void)
{
	for (unsigned i = 0; i < QUEUES; i++)
		queue_start(&q[i], &g, i, 32);
	driver_ok(&g);
}

/* Give the device `n` buffers of len bytes on an input queue. */
static void offer(struct driver_queue *in, unsigned n, uint32_t len)
{
	for (unsigned i = 0; i < n; i++)
		queue_add(in, (struct buffer[]){{guest_alloc(&g, len), len}}, 0, 1);
	queue_kick(in);
}

static void send_control(uint32_t id, uint16_t event, uint16_t value)
{
	struct virtio_console_control m = {.id = id, .event = event, .value = value};
	gpa_t gpa = guest_alloc(&g, sizeof(m));
	memcpy(at(&g, gpa, sizeof(m)), &m, sizeof(m));
	queue_add(&q[CTL_OUT], (struct buffer[]){{gpa, sizeof(m)}}, 1, 0);
	queue_kick(&q[CTL_OUT]);
	queue_wait(&q[CTL_OUT]);
}

/* The next control message must be this one; tail is what follows its header. */
static void expect_control(uint32_t id, uint16_t event, uint16_t value, const void *tail, size_t tail_len)
{
	struct vring_used_elem e = queue_wait(&q[CTL_IN]);
	uint8_t *p = at(&g, q[CTL_IN].desc[e.id].addr, e.len);
	struct virtio_console_control m;
	memcpy(&m, p, sizeof(m));
	assert_int_equal(m.id, id);
	assert_int_equal(m.event, event);
	assert_int_equal(m.value, value);
	assert_int_equal(e.len, sizeof(m) + tail_len);
	assert_memory_equal(p + sizeof(m), tail, tail_len);
}

static void expect_no_control(void)
{
	struct vring_used_elem e;
	turn(&g, 2);
	assert_false(queue_used(&q[CTL_IN], &e));
}

static void boot(void)
{
	plug();
	assert_true(driver_negotiate(&g, device_features(&g)));
	start_queues();
	offer(&q[CTL_IN], 16, 64);
	send_control(0, VIRTIO_CONSOLE_DEVICE_READY, 1);
	for (uint32_t i = 0; i < PORTS; i++)
		expect_control(i, VIRTIO_CONSOLE_PORT_ADD, 1, "", 0);
	send_control(0, VIRTIO_CONSOLE_PORT_READY, 1);
	expect_control(0, VIRTIO_CONSOLE_CONSOLE_PORT, 1, "", 0);
	expect_control(0, VIRTIO_CONSOLE_PORT_OPEN, 1, "", 0);
	send_control(1, VIRTIO_CONSOLE_PORT_READY, 1);
	expect_control(1, VIRTIO_CONSOLE_PORT_OPEN, 1, "", 0);
	expect_control(1, VIRTIO_CONSOLE_PORT_NAME, 1, "first", 5);
	expect_no_control();
}

static uint16_t guest_writes(struct driver_queue *out, const char *text)
{
	uint32_t len = (uint32_t)strlen(text);
	gpa_t gpa = guest_alloc(&g, len);
	memcpy(at(&g, gpa, len), text, len);
	uint16_t head = queue_add(out, (struct buffer[]){{gpa, len}}, 1, 0);
	queue_kick(out);
	return head;
}

static void expect_output(unsigned port, const char *text)
{
	assert_int_equal(host[port].len, strlen(text));
	assert_memory_equal(host[port].out, text, strlen(text));
}

static void test_ports(void **state)
{
	(void)state;
	boot();
	assert_int_equal(reg_read(&g, VIRTIO_MMIO_DEVICE_ID), 3);
	assert_int_equal(config_field(&g, offsetof(struct virtio_console_config, max_nr_ports), 4), PORTS);
	guest_writes(&q[OUT0], "console");
	guest_writes(&q[OUT1], "one");
	guest_writes(&q[OUT2], "two");
	expect_output(0, "console");
	expect_output(1, "one");
	expect_output(2, "two");

	/* Input comes only once the guest has the port open. */
	offer(&q[IN1], 2, 4);
	assert_int_equal(virtio_console_send(g.dev, 1, (const uint8_t *)"abcdef", 6), 0);
	send_control(1, VIRTIO_CONSOLE_PORT_OPEN, 1);
	assert_int_equal(host[1].opened, 1);
	assert_true(host[1].rooms > 0);
	unsigned rooms = host[1].rooms;
	assert_int_equal(virtio_console_send(g.dev, 1, (const uint8_t *)"abcdefghij", 10), 8);
	struct vring_used_elem e = queue_wait(&q[IN1]);
	assert_int_equal(e.len, 4);
	assert_memory_equal(at(&g, q[IN1].desc[e.id].addr, 4), "abcd", 4);
	assert_int_equal(queue_wait(&q[IN1]).len, 4);
	assert_int_equal(host[1].rooms, rooms);
	offer(&q[IN1], 1, 64);
	assert_int_equal(host[1].rooms, rooms + 1);
	assert_int_equal(virtio_console_send(g.dev, 1, (const uint8_t *)"ij", 2), 2);
	assert_int_equal(queue_wait(&q[IN1]).len, 2);
	assert_int_equal(virtio_console_send(g.dev, 77, (const uint8_t *)"ij", 2), 0);

	/* The end of input. */
	virtio_console_set_open(g.dev, 1, false);
	expect_control(1, VIRTIO_CONSOLE_PORT_OPEN, 0, "", 0);
	virtio_console_set_open(g.dev, 1, false);
	expect_no_control();
	send_control(2, VIRTIO_CONSOLE_PORT_READY, 1);
	expect_control(2, VIRTIO_CONSOLE_PORT_OPEN, 1, "", 0);
	expect_control(2, VIRTIO_CONSOLE_PORT_NAME, 1, "second", 6);
	assert_false(needs_reset(&g));
	guest_end(&g);
}

static void test_back_pressure(void **state)
{
	struct vring_used_elem e;
	(void)state;
	boot();
	send_control(1, VIRTIO_CONSOLE_PORT_OPEN, 1);
	host[1].room = 5;
	guest_writes(&q[OUT1], "abc");
	guest_writes(&q[OUT1], "defghi");
	guest_writes(&q[OUT1], "jkl");
	expect_output(1, "abcde");
	assert_true(queue_used(&q[OUT1], &e));
	assert_false(queue_used(&q[OUT1], &e));
	assert_false(virtio_console_drain(g.dev, 1));
	/* The closing waits behind the output. */
	send_control(1, VIRTIO_CONSOLE_PORT_OPEN, 0);
	assert_int_equal(host[1].opened, 1);
	unsigned drained = host[1].drained;
	host[1].room = SIZE_MAX;
	virtio_console_resume(g.dev, 1);
	expect_output(1, "abcdefghijkl");
	assert_int_equal(host[1].opened, 0);
	assert_int_equal(host[1].drained, drained + 1);
	assert_true(virtio_console_drain(g.dev, 1));
	assert_true(queue_used(&q[OUT1], &e));
	assert_true(queue_used(&q[OUT1], &e));

	/* Nobody reads any more: output is dropped, not stuck. */
	host[2].room = 0;
	guest_writes(&q[OUT2], "lost");
	assert_false(queue_used(&q[OUT2], &e));
	virtio_console_set_open(g.dev, 2, false);
	assert_true(queue_used(&q[OUT2], &e));
	expect_output(2, "");
	guest_end(&g);
}

static void test_output_outlives_reset(void **state)
{
	(void)state;
	boot();
	send_control(1, VIRTIO_CONSOLE_PORT_OPEN, 1);
	host[1].room = 2;
	guest_writes(&q[OUT1], "abcd");
	guest_writes(&q[OUT1], "efgh");
	reg_write(&g, VIRTIO_MMIO_STATUS, 0);
	memset(g.ram.base, 0xff, RAM_BYTES);
	assert_int_equal(host[1].opened, 1);
	host[1].room = 3;
	virtio_console_resume(g.dev, 1);
	assert_int_equal(host[1].opened, 1);
	host[1].room = SIZE_MAX;
	virtio_console_resume(g.dev, 1);
	expect_output(1, "abcdefgh");
	assert_int_equal(host[1].opened, 0);
	guest_end(&g);
}

static void test_control_buffers_run_out(void **state)
{
	(void)state;
	plug();
	assert_true(driver_negotiate(&g, device_features(&g)));
	start_queues();
	offer(&q[CTL_IN], 2, 64);
	for (int i = 0; i < 1000; i++) /* a driver that asks again and again costs nothing */
		send_control(0, VIRTIO_CONSOLE_DEVICE_READY, 1);
	expect_control(0, VIRTIO_CONSOLE_PORT_ADD, 1, "", 0);
	expect_control(1, VIRTIO_CONSOLE_PORT_ADD, 1, "", 0);
	offer(&q[CTL_IN], 8, 3); /* too small for a message: cut, no harm */
	turn(&g, 2);
	assert_false(needs_reset(&g));
	guest_end(&g);
}

static void test_resize(void **state)
{
	(void)state;
	boot();
	uint16_t window[2] = {24, 80};
	virtio_console_resize(g.dev, 24, 80);
	expect_control(0, VIRTIO_CONSOLE_RESIZE, 1, window, 4);
	virtio_console_resize(g.dev, 24, 80);
	expect_no_control();
	assert_int_equal(config_field(&g, 0, 2), 80);
	assert_int_equal(config_field(&g, 2, 2), 24);
	/* A guest that comes later gets the size with the port. */
	reg_write(&g, VIRTIO_MMIO_STATUS, 0);
	assert_true(driver_negotiate(&g, device_features(&g)));
	start_queues();
	offer(&q[CTL_IN], 16, 64);
	send_control(0, VIRTIO_CONSOLE_PORT_READY, 1);
	expect_control(0, VIRTIO_CONSOLE_CONSOLE_PORT, 1, "", 0);
	expect_control(0, VIRTIO_CONSOLE_PORT_OPEN, 1, "", 0);
	expect_control(0, VIRTIO_CONSOLE_RESIZE, 1, window, 4);
	guest_end(&g);
}

static void test_without_multiport(void **state)
{
	(void)state;
	plug();
	assert_true(driver_negotiate(&g, device_features(&g) & ~(UINT64_C(1) << VIRTIO_CONSOLE_F_MULTIPORT)));
	queue_start(&q[IN0], &g, IN0, 32);
	queue_start(&q[OUT0], &g, OUT0, 32);
	driver_ok(&g);
	offer(&q[IN0], 1, 16);
	guest_writes(&q[OUT0], "plain");
	expect_output(0, "plain");
	assert_int_equal(virtio_console_send(g.dev, 0, (const uint8_t *)"x", 1), 1);
	/* The emergency write needs no driver at all. */
	reg_write(&g, VIRTIO_MMIO_STATUS, 0);
	reg_write(&g, VIRTIO_MMIO_CONFIG + offsetof(struct virtio_console_config, emerg_wr), '!');
	expect_output(0, "plain!");
	guest_end(&g);
}

static void test_bad_messages(void **state)
{
	(void)state;
	boot();
	send_control(PORTS, VIRTIO_CONSOLE_PORT_READY, 1);
	send_control(UINT32_MAX, VIRTIO_CONSOLE_PORT_OPEN, 1);
	send_control(1, 0xffff, 1);
	gpa_t gpa = guest_alloc(&g, 8);
	queue_add(&q[CTL_OUT], (struct buffer[]){{gpa, 3}}, 1, 0); /* short */
	queue_add(&q[CTL_OUT], (struct buffer[]){{gpa, 8}}, 0, 1); /* wrong direction */
	queue_kick(&q[CTL_OUT]);
	queue_wait(&q[CTL_OUT]);
	queue_wait(&q[CTL_OUT]);
	/* Input buffers without room, for ever. */
	send_control(1, VIRTIO_CONSOLE_PORT_OPEN, 1);
	for (int i = 0; i < 32; i++)
		queue_add(&q[IN1], (struct buffer[]){{gpa, 8}}, 1, 0);
	assert_int_equal(virtio_console_send(g.dev, 1, (const uint8_t *)"x", 1), 0);
	/* One chain that names the same memory many times is served in several turns. */
	gpa_t big = guest_alloc(&g, 1 << 20);
	struct buffer b[32];
	for (int i = 0; i < 32; i++)
		b[i] = (struct buffer){big, 1 << 20};
	host[2].room = 0;
	virtio_console_set_open(g.dev, 2, false); /* dropped, so that the test's memory suffices */
	queue_add(&q[OUT2], b, 32, 0);
	queue_kick(&q[OUT2]);
	struct vring_used_elem e;
	assert_false(queue_used(&q[OUT2], &e));
	queue_wait(&q[OUT2]);
	assert_false(needs_reset(&g));
	guest_end(&g);
}

static void test_rng(void **state)
{
	(void)state;
	guest_start(&g);
	struct virtio_env env = guest_env(&g);
	guest_plug(&g, virtio_rng_create(&env, err));
	assert_true(driver_negotiate(&g, device_features(&g)));
	assert_int_equal(reg_read(&g, VIRTIO_MMIO_DEVICE_ID), 4);
	queue_start(&q[0], &g, 0, 64);
	driver_ok(&g);
	gpa_t a = guest_alloc(&g, 64), b = guest_alloc(&g, 1 << 20);
	queue_add(&q[0], (struct buffer[]){{a, 32}, {a + 32, 32}}, 0, 2);
	queue_add(&q[0], (struct buffer[]){{b, 1 << 20}}, 0, 1);
	queue_add(&q[0], (struct buffer[]){{b, 64}}, 1, 0); /* nowhere to write */
	queue_kick(&q[0]);
	assert_int_equal(queue_wait(&q[0]).len, 64);
	assert_in_range(queue_wait(&q[0]).len, 1, 1 << 20);
	assert_int_equal(queue_wait(&q[0]).len, 0);
	assert_memory_not_equal(at(&g, a, 64), at(&g, a + 64, 64), 64);
	assert_memory_not_equal(at(&g, a, 32), at(&g, a + 32, 32), 32);
	guest_end(&g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ports),
		cmocka_unit_test(test_back_pressure),
		cmocka_unit_test(test_output_outlives_reset),
		cmocka_unit_test(test_control_buffers_run_out),
		cmocka_unit_test(test_resize),
		cmocka_unit_test(test_without_multiport),
		cmocka_unit_test(test_bad_messages),
		cmocka_unit_test(test_rng),
	};
	device_report_to = quiet;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
