/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The virtio core with a device of the test's own that gives every out byte back: registers, negotiation, rings, event
 * index, indirect tables, deferral, and all the ways a driver can break its ring.
 */
#include "test-virtio-driver.h"

#define QUEUE_SIZE 16

static struct guest g;
static struct driver_queue q;
static unsigned notified, resets, configured;
static uint8_t config[12];
static struct iovec iov[QUEUE_SIZE];
static unsigned defer_limit;
static const uint64_t all = ~UINT64_C(0);

static void echo_notify(void *priv, unsigned queue)
{
	struct virtq *vq = &g.dev->vq[queue];
	struct virtq_chain c;
	unsigned n = 0;
	(void)priv;
	notified++;
	while (virtq_pop(vq, &c, iov, QUEUE_SIZE)) {
		uint8_t bytes[256];
		size_t len = iov_take(&c.out, &c.out_count, bytes, sizeof(bytes));
		virtq_push(vq, c.head, (uint32_t)iov_put(&c.in, &c.in_count, bytes, len));
		if (++n == defer_limit) {
			virtio_defer(g.dev, queue);
			break;
		}
	}
	virtq_signal(vq);
}

static void echo_reset(void *priv)
{
	(void)priv;
	resets++;
}

static void echo_config_write(void *priv, uint32_t offset, const void *data, unsigned size)
{
	(void)priv;
	assert_true(offset + size <= sizeof(config));
	memcpy(config + offset, data, size);
	configured++;
}

static const struct virtio_ops echo_ops = {
	.name = "echo", .device_id = 42, .config_write = echo_config_write, .notify = echo_notify, .reset = echo_reset};

static void plug(void)
{
	static const uint16_t sizes[] = {QUEUE_SIZE, QUEUE_SIZE};
	struct virtio_shape shape = {.features = 1u << 5,
				     .nqueues = 2,
				     .queue_sizes = sizes,
				     .config = config,
				     .config_size = sizeof(config)};
	guest_start(&g);
	struct virtio_env env = guest_env(&g);
	notified = resets = configured = defer_limit = 0;
	guest_plug(&g, virtio_create(&env, &echo_ops, &shape, NULL));
}

static void boot(uint64_t features)
{
	plug();
	assert_true(driver_negotiate(&g, device_features(&g) & features));
	queue_start(&q, &g, 0, QUEUE_SIZE);
	driver_ok(&g);
	notified = 0;
}

/* Send text, get it back. */
static void echo(const char *text)
{
	uint32_t len = (uint32_t)strlen(text);
	gpa_t out = guest_alloc(&g, len), in = guest_alloc(&g, 64);
	memcpy(at(&g, out, len), text, len);
	uint16_t head = queue_add(&q, (struct buffer[]){{out, len}, {in, 64}}, 1, 1);
	queue_kick(&q);
	struct vring_used_elem e = queue_wait(&q);
	assert_int_equal(e.id, head);
	assert_int_equal(e.len, len);
	assert_memory_equal(at(&g, in, 64), text, len);
}

static void test_registers(void **state)
{
	(void)state;
	plug();
	assert_int_equal(reg_read(&g, VIRTIO_MMIO_MAGIC_VALUE), 0x74726976);
	assert_int_equal(reg_read(&g, VIRTIO_MMIO_VERSION), 2);
	assert_int_equal(reg_read(&g, VIRTIO_MMIO_DEVICE_ID), 42);
	assert_int_equal(reg_read(&g, 0xb0), UINT32_MAX);
	assert_int_equal(reg_read(&g, VIRTIO_MMIO_QUEUE_NUM_MAX), QUEUE_SIZE);
	reg_write(&g, VIRTIO_MMIO_QUEUE_SEL, 2);
	assert_int_equal(reg_read(&g, VIRTIO_MMIO_QUEUE_NUM_MAX), 0);
	reg_write(&g, VIRTIO_MMIO_QUEUE_READY, 1);
	assert_int_equal(reg_read(&g, VIRTIO_MMIO_QUEUE_READY), 0);
	reg_write(&g, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 2);
	assert_int_equal(reg_read(&g, VIRTIO_MMIO_DEVICE_FEATURES), 0);
	/* Only aligned 32-bit accesses to control registers. */
	assert_int_equal(bus_read(&g.bus, BUS_MMIO, VIRTIO_MMIO_BASE, 2), 0);
	assert_int_equal(bus_read(&g.bus, BUS_MMIO, VIRTIO_MMIO_BASE + 1, 4), 0);
	/* Every register with every size, values from nowhere. */
	for (uint64_t reg = 0; reg < 0x200; reg++)
		for (unsigned size = 1; size <= 8; size *= 2) {
			bus_read(&g.bus, BUS_MMIO, VIRTIO_MMIO_BASE + reg, size);
			bus_write(&g.bus, BUS_MMIO, VIRTIO_MMIO_BASE + reg, 0x9e3779b97f4a7c15u * reg, size);
		}
	guest_end(&g);
}

static void test_config(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(config); i++)
		config[i] = (uint8_t)('a' + i);
	plug();
	assert_int_equal(config_field(&g, 0, 4), 0x64636261);
	assert_int_equal(config_field(&g, 8, 8), 0x6c6b6a69);
	assert_int_equal(config_field(&g, 12, 4), 0);
	assert_int_equal(config_field(&g, 11, 1), 'l');
	bus_write(&g.bus, BUS_MMIO, VIRTIO_MMIO_BASE + 0x100 + 4, 'E', 1);
	assert_int_equal(configured, 1);
	assert_int_equal(config[4], 'E');
	bus_write(&g.bus, BUS_MMIO, VIRTIO_MMIO_BASE + 0x100 + 8, 0, 8); /* over the end */
	bus_write(&g.bus, BUS_MMIO, VIRTIO_MMIO_BASE + 0x100 + 80, 0, 4);
	assert_int_equal(configured, 1);
	uint32_t generation = reg_read(&g, VIRTIO_MMIO_CONFIG_GENERATION);
	virtio_config_changed(g.dev);
	assert_int_not_equal(reg_read(&g, VIRTIO_MMIO_CONFIG_GENERATION), generation);
	assert_int_equal(g.irqs, 0); /* nobody is there yet */
	assert_true(driver_negotiate(&g, device_features(&g)));
	driver_ok(&g);
	virtio_config_changed(g.dev);
	assert_int_equal(g.irqs, 1);
	assert_int_equal(reg_read(&g, VIRTIO_MMIO_INTERRUPT_STATUS), 2);
	reg_write(&g, VIRTIO_MMIO_INTERRUPT_ACK, 2);
	assert_int_equal(g.isr, 0);
	guest_end(&g);
}

static void test_negotiation(void **state)
{
	(void)state;
	plug();
	uint64_t offered = device_features(&g);
	assert_int_equal(offered, UINT64_C(1) << 32 | 1u << 29 | 1u << 28 | 1u << 5);
	assert_false(driver_negotiate(&g, offered & ~(UINT64_C(1) << 32))); /* a legacy driver */
	assert_false(driver_negotiate(&g, offered | 1u << 7));
	assert_true(driver_negotiate(&g, UINT64_C(1) << 32));
	/* Too late for another one. */
	reg_write(&g, VIRTIO_MMIO_DRIVER_FEATURES, 1u << 7);
	assert_int_equal(g.dev->driver_features, UINT64_C(1) << 32);
	driver_ok(&g);
	assert_true(g.dev->live);
	/* DRIVER_OK without features. */
	reg_write(&g, VIRTIO_MMIO_STATUS, 0);
	assert_int_equal(reg_read(&g, VIRTIO_MMIO_STATUS), 0);
	reg_write(&g, VIRTIO_MMIO_STATUS, VIRTIO_CONFIG_S_DRIVER_OK);
	assert_true(needs_reset(&g));
	assert_false(g.dev->live);
	/* Bits never go away but by a reset. */
	reg_write(&g, VIRTIO_MMIO_STATUS, 1);
	assert_int_equal(reg_read(&g, VIRTIO_MMIO_STATUS), 1 | VIRTIO_CONFIG_S_DRIVER_OK | VIRTIO_CONFIG_S_NEEDS_RESET);
	assert_true(resets >= 4);
	guest_end(&g);
}

static void test_echo(void **state)
{
	(void)state;
	boot(all);
	for (int i = 0; i < 70000; i++) { /* past the wrap of the 16-bit indexes */
		gpa_t next = g.next;
		echo("hello");
		g.next = next;
	}
	assert_false(needs_reset(&g));
	/* A buffer above 4 GiB. */
	gpa_t high = RAM_HIGH_BASE + 4096;
	memcpy(at(&g, high, 4), "high", 4);
	queue_add(&q, (struct buffer[]){{high, 4}, {high + 64, 8}}, 1, 1);
	queue_kick(&q);
	assert_int_equal(queue_wait(&q).len, 4);
	assert_memory_equal(at(&g, high + 64, 4), "high", 4);
	guest_end(&g);
}

static void test_notification_before_ok(void **state)
{
	(void)state;
	plug();
	assert_true(driver_negotiate(&g, device_features(&g)));
	queue_start(&q, &g, 0, QUEUE_SIZE);
	gpa_t out = guest_alloc(&g, 64);
	queue_add(&q, (struct buffer[]){{out, 5}, {out, 64}}, 1, 1);
	queue_kick(&q);
	assert_int_equal(notified, 0);
	driver_ok(&g);
	assert_int_equal(queue_wait(&q).len, 5);
	virtio_mmio_notify(g.dev, 1);  /* not ready */
	virtio_mmio_notify(g.dev, 77); /* not there */
	virtio_mmio_notify(g.dev, UINT32_MAX);
	assert_int_equal(notified, 1);
	guest_end(&g);
}

static uint16_t avail_event(void)
{
	uint16_t event;
	memcpy(&event, &q.used->ring[QUEUE_SIZE], sizeof(event));
	return event;
}

static void test_event_idx(void **state)
{
	(void)state;
	boot(all);
	/* avail_event asks for a notification of the very next buffer. */
	queue_kick(&q);
	assert_int_equal(avail_event(), 0);
	echo("a");
	assert_int_equal(avail_event(), 1);
	/* used_event at 3: no interrupt for the second and third, one for the fourth. */
	unsigned before = g.irqs;
	q.avail->ring[QUEUE_SIZE] = 3;
	echo("b");
	echo("c");
	assert_int_equal(g.irqs, before);
	echo("d");
	assert_int_equal(g.irqs, before + 1);
	echo("e");
	assert_int_equal(g.irqs, before + 1);
	guest_end(&g);

	boot(all & ~(UINT64_C(1) << VIRTIO_RING_F_EVENT_IDX));
	q.avail->flags = VRING_AVAIL_F_NO_INTERRUPT;
	echo("f");
	assert_int_equal(g.irqs, 0);
	q.avail->flags = 0;
	echo("g");
	assert_int_equal(g.irqs, 1);
	assert_int_equal(g.isr, 1);
	queue_kick(&q); /* nothing there: no interrupt either */
	assert_int_equal(g.irqs, 1);
	guest_end(&g);
}

static gpa_t indirect(const struct buffer *b, unsigned nout, unsigned nin)
{
	gpa_t table = guest_alloc(&g, (nout + nin) * 16) + 4; /* any alignment */
	g.next += 64;
	struct vring_desc d;
	for (unsigned i = 0; i < nout + nin; i++) {
		d = (struct vring_desc){.addr = b[i].gpa,
					.len = b[i].len,
					.next = (uint16_t)(i + 1),
					.flags = (uint16_t)((i >= nout ? VRING_DESC_F_WRITE : 0) |
							    (i + 1 < nout + nin ? VRING_DESC_F_NEXT : 0))};
		memcpy(at(&g, table + i * 16, 16), &d, 16);
	}
	return table;
}

static void test_indirect(void **state)
{
	(void)state;
	boot(all);
	gpa_t out = guest_alloc(&g, 64), in = guest_alloc(&g, 64);
	memcpy(at(&g, out, 6), "abcdef", 6);
	gpa_t table = indirect((struct buffer[]){{out + 2, 2}, {out + 4, 2}, {in, 64}}, 2, 1);
	/* A direct buffer in front of the table. */
	q.desc[0] = (struct vring_desc){.addr = out, .len = 2, .flags = VRING_DESC_F_NEXT, .next = 5};
	q.desc[5] = (struct vring_desc){.addr = table, .len = 48, .flags = VRING_DESC_F_INDIRECT | VRING_DESC_F_WRITE};
	queue_publish(&q, 0);
	queue_kick(&q);
	assert_int_equal(queue_wait(&q).len, 6);
	assert_memory_equal(at(&g, in, 6), "abcdef", 6);
	assert_false(needs_reset(&g));
	guest_end(&g);
}

static void test_defer(void **state)
{
	(void)state;
	boot(all);
	defer_limit = 3;
	gpa_t out = guest_alloc(&g, 64);
	for (int i = 0; i < 8; i++)
		queue_add(&q, (struct buffer[]){{out, 5}, {out, 64}}, 1, 1);
	queue_kick(&q);
	assert_int_equal(q.used->idx, 3);
	turn(&g, 1);
	assert_int_equal(q.used->idx, 6);
	turn(&g, 5);
	assert_int_equal(q.used->idx, 8);
	assert_int_equal(notified, 3);
	guest_end(&g);
}

/* ---- hostile drivers ---- */

static void break_rings(struct driver_queue *bad, uint32_t num, gpa_t desc, gpa_t avail, gpa_t used)
{
	plug();
	assert_true(driver_negotiate(&g, device_features(&g)));
	*bad = (struct driver_queue){.g = &g, .num = num, .desc_gpa = desc, .avail_gpa = avail, .used_gpa = used};
	queue_program(bad);
	assert_int_equal(reg_read(&g, VIRTIO_MMIO_QUEUE_READY), 0);
	assert_true(needs_reset(&g));
	driver_ok(&g);
	queue_kick(bad);
	assert_int_equal(notified, 0);
	guest_end(&g);
}

static void test_bad_rings(void **state)
{
	struct driver_queue b;
	(void)state;
	break_rings(&b, 0, 0x1000, 0x2000, 0x3000);
	break_rings(&b, 3, 0x1000, 0x2000, 0x3000);
	break_rings(&b, 32, 0x1000, 0x2000, 0x3000);
	break_rings(&b, UINT32_MAX, 0x1000, 0x2000, 0x3000);
	break_rings(&b, 16, 0x1008, 0x2000, 0x3000);
	break_rings(&b, 16, 0x1000, 0x2001, 0x3000);
	break_rings(&b, 16, 0x1000, 0x2000, 0x3002);
	break_rings(&b, 16, LOW_BYTES - 128, 0x2000, 0x3000);
	break_rings(&b, 16, 0x1000, LOW_BYTES - 16, 0x3000);
	break_rings(&b, 16, 0x1000, 0x2000, LOW_BYTES - 64);
	break_rings(&b, 16, UINT64_MAX & ~15ull, 0x2000, 0x3000);
	break_rings(&b, 16, 0x1000, 0xd0000000, 0x3000);
	break_rings(&b, 16, 0x1000, 0x2000, RAM_HIGH_BASE + (RAM_BYTES - LOW_BYTES));
}

static void expect_broken(void)
{
	queue_kick(&q);
	assert_true(needs_reset(&g));
	assert_false(g.dev->live);
	assert_int_equal(g.isr & 2, 2);
	unsigned n = notified;
	queue_kick(&q);
	assert_int_equal(notified, n); /* dead until the reset */
	assert_true(driver_negotiate(&g, device_features(&g)));
	memset(q.desc, 0, 16 * QUEUE_SIZE);
	queue_start(&q, &g, 0, QUEUE_SIZE);
	driver_ok(&g);
	echo("alive");
}

static void test_bad_chains(void **state)
{
	(void)state;
	boot(all);
	gpa_t ok = guest_alloc(&g, 4096);
	static const gpa_t nowhere[] = {LOW_BYTES,
					LOW_BYTES - 1,
					UINT64_MAX,
					UINT64_MAX - 1,
					0xd0000000,
					RAM_HIGH_BASE - 1,
					RAM_HIGH_BASE + (1 << 20) - 1};
	for (size_t i = 0; i < ARRAY_LEN(nowhere); i++) {
		queue_add(&q, (struct buffer[]){{nowhere[i], 2}}, 1, 0);
		expect_broken();
	}
	queue_add(&q, (struct buffer[]){{ok, UINT32_MAX}}, 0, 1);
	expect_broken();
	queue_publish(&q, QUEUE_SIZE); /* head out of range */
	expect_broken();
	queue_publish(&q, UINT16_MAX);
	expect_broken();
	q.desc[0] = (struct vring_desc){.addr = ok, .len = 4, .flags = VRING_DESC_F_NEXT, .next = QUEUE_SIZE};
	queue_publish(&q, 0);
	expect_broken();
	q.desc[0] = (struct vring_desc){.addr = ok, .len = 4, .flags = VRING_DESC_F_NEXT, .next = 0}; /* a loop */
	queue_publish(&q, 0);
	expect_broken();
	q.desc[0] =
		(struct vring_desc){.addr = ok, .len = 4, .flags = VRING_DESC_F_NEXT | VRING_DESC_F_WRITE, .next = 1};
	q.desc[1] = (struct vring_desc){.addr = ok, .len = 4};
	queue_publish(&q, 0); /* out behind in */
	expect_broken();
	q.avail->idx = (uint16_t)(q.avail->idx + QUEUE_SIZE + 1); /* more than there can be */
	expect_broken();
	guest_end(&g);
}

static void bad_table(gpa_t table, uint32_t len, uint16_t more_flags)
{
	q.desc[0] =
		(struct vring_desc){.addr = table, .len = len, .flags = VRING_DESC_F_INDIRECT | more_flags, .next = 1};
	q.desc[1] = (struct vring_desc){.addr = table, .len = 4};
	queue_publish(&q, 0);
	expect_broken();
}

static void test_bad_indirect(void **state)
{
	(void)state;
	boot(all);
	gpa_t out = guest_alloc(&g, 64);
	gpa_t table = indirect((struct buffer[]){{out, 2}, {out, 2}}, 2, 0);
	bad_table(table, 0, 0);
	bad_table(table, 17, 0);
	bad_table(table, 32, VRING_DESC_F_NEXT);
	bad_table(LOW_BYTES - 16, 32, 0);
	bad_table(table, 16, 0); /* its NEXT points behind the end */
	/* A table in a table. */
	gpa_t inner = indirect((struct buffer[]){{out, 2}}, 1, 0);
	struct vring_desc d = {.addr = inner, .len = 16, .flags = VRING_DESC_F_INDIRECT};
	gpa_t outer = guest_alloc(&g, 16);
	memcpy(at(&g, outer, 16), &d, 16);
	bad_table(outer, 16, 0);
	/* A long one that loops. */
	gpa_t big = guest_alloc(&g, 65536);
	d = (struct vring_desc){.addr = out, .len = 1, .flags = VRING_DESC_F_NEXT, .next = 0};
	memcpy(at(&g, big, 16), &d, 16);
	bad_table(big, 65536, 0);
	guest_end(&g);
	/* Not negotiated. */
	boot(all & ~(UINT64_C(1) << VIRTIO_RING_F_INDIRECT_DESC));
	table = indirect((struct buffer[]){{guest_alloc(&g, 64), 2}}, 1, 0);
	q.desc[0] = (struct vring_desc){.addr = table, .len = 16, .flags = VRING_DESC_F_INDIRECT};
	queue_publish(&q, 0);
	queue_kick(&q);
	assert_true(needs_reset(&g));
	guest_end(&g);
}

/* Buffers that are popped and never given back: not more than the queue can hold, and the queue cannot be pulled away. */
static void test_in_flight(void **state)
{
	struct virtq_chain c;
	(void)state;
	boot(all);
	gpa_t out = guest_alloc(&g, 64);
	struct virtq *vq = &g.dev->vq[0];
	q.desc[0] = (struct vring_desc){.addr = out, .len = 4};
	for (unsigned i = 0; i < QUEUE_SIZE; i++) {
		queue_publish(&q, 0);
		assert_true(virtq_pending(vq));
		assert_true(virtq_pop(vq, &c, iov, QUEUE_SIZE));
	}
	queue_publish(&q, 0);
	assert_false(virtq_pop(vq, &c, iov, QUEUE_SIZE));
	assert_true(needs_reset(&g));
	guest_end(&g);
	boot(all);
	vq = &g.dev->vq[0];
	queue_add(&q, (struct buffer[]){{out, 4}}, 1, 0);
	assert_true(virtq_pop(vq, &c, iov, QUEUE_SIZE));
	reg_write(&g, VIRTIO_MMIO_QUEUE_READY, 0);
	assert_true(needs_reset(&g));
	virtq_push(vq, c.head, 0);
	assert_int_equal(q.used->idx, 0);
	guest_end(&g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_registers),
		cmocka_unit_test(test_config),
		cmocka_unit_test(test_negotiation),
		cmocka_unit_test(test_echo),
		cmocka_unit_test(test_notification_before_ok),
		cmocka_unit_test(test_event_idx),
		cmocka_unit_test(test_indirect),
		cmocka_unit_test(test_defer),
		cmocka_unit_test(test_bad_rings),
		cmocka_unit_test(test_bad_chains),
		cmocka_unit_test(test_bad_indirect),
		cmocka_unit_test(test_in_flight),
	};
	device_report_to = quiet;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
