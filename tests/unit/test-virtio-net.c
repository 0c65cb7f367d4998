/* SPDX-License-Identifier: BSD-2-Clause */
/* virtio-net with a back-end of the test's own: the card, its queues and offloads, and what reads packets. */
#include "test-virtio-net.h"
#include "devices/net-packet.h"

#include <arpa/inet.h>

/* ---- the test's back-end ---- */

static struct {
	struct net_backend b;
	bool refuse;
	unsigned sent, rx_ready, flushed, destroyed;
	uint64_t agreed;
	struct virtio_net_hdr_v1 hdr;
	uint8_t frame[NET_FRAME_MAX];
	size_t len;
} fake;

static bool fake_send(struct net_backend *b, const struct virtio_net_hdr_v1 *hdr, struct iovec *iov, unsigned count,
		      size_t len)
{
	assert_ptr_equal(b, &fake.b);
	if (fake.refuse)
		return false;
	fake.sent++;
	fake.hdr = *hdr;
	fake.len = 0;
	for (unsigned i = 0; i < count; i++) {
		memcpy(fake.frame + fake.len, iov[i].iov_base, iov[i].iov_len);
		fake.len += iov[i].iov_len;
	}
	assert_int_equal(fake.len, len);
	return true;
}

static void fake_flush(struct net_backend *b)
{
	(void)b;
	fake.flushed++;
}

static void fake_rx_ready(struct net_backend *b)
{
	(void)b;
	fake.rx_ready++;
}

static void fake_agreed(struct net_backend *b, uint64_t features)
{
	(void)b;
	fake.agreed = features;
}

static void fake_destroy(struct net_backend *b)
{
	(void)b;
	fake.destroyed++;
}

static const struct net_backend_ops fake_ops = {.send = fake_send,
						.flush = fake_flush,
						.rx_ready = fake_rx_ready,
						.agreed = fake_agreed,
						.destroy = fake_destroy};

static void boot_fake(uint64_t without)
{
	guest_start(&g);
	memset(&fake, 0, sizeof(fake));
	fake.b = (struct net_backend){.ops = &fake_ops, .features = UINT64_MAX, .mtu = 9000};
	boot(&fake.b, without);
}

/* ---- the card ---- */

static void test_config(void **state)
{
	(void)state;
	boot_fake(0);
	assert_int_equal(config_field(&g, 0, 4), 0x01005452);
	assert_int_equal(config_field(&g, 6, 2), VIRTIO_NET_S_LINK_UP);
	assert_int_equal(config_field(&g, 8, 2), PAIRS);
	assert_int_equal(config_field(&g, 10, 2), 9000);
	assert_true(fake.agreed >> VIRTIO_NET_F_CSUM & 1);
	assert_int_equal(fake.rx_ready, 1);
	unsigned before = g.irqs;
	virtio_net_set_link(g.dev, false);
	assert_int_equal(config_field(&g, 6, 2), 0);
	assert_int_equal(g.irqs, before + 1);
	virtio_net_set_link(g.dev, false);
	assert_int_equal(g.irqs, before + 1);
	reg_write(&g, VIRTIO_MMIO_STATUS, 0);
	assert_int_equal(fake.agreed, 0);
	assert_true(virtio_net_receive(g.dev, NULL, fake.frame, 60)); /* nobody is there: dropped */
	guest_end(&g);
	assert_int_equal(fake.destroyed, 1);
}

static void test_send(void **state)
{
	(void)state;
	uint8_t frame[1000];
	fill(frame, sizeof(frame));
	boot_fake(0);
	send_frame(&q[TX0], &none, frame, sizeof(frame));
	queue_wait(&q[TX0]);
	assert_int_equal(fake.sent, 1);
	assert_int_equal(fake.len, sizeof(frame));
	assert_memory_equal(fake.frame, frame, sizeof(frame));
	assert_true(fake.flushed > 0);

	/* A back-end without room: the frame waits, in order, and nothing is lost. */
	fake.refuse = true;
	for (uint8_t i = 0; i < 5; i++) {
		frame[0] = i;
		send_frame(&q[TX0], &none, frame, 100);
	}
	struct vring_used_elem e;
	turn(&g, 5);
	assert_false(queue_used(&q[TX0], &e));
	fake.refuse = false;
	virtio_net_resume(g.dev);
	for (int i = 0; i < 5; i++)
		queue_wait(&q[TX0]);
	assert_int_equal(fake.sent, 6);
	assert_int_equal(fake.frame[0], 4);
	guest_end(&g);
}

static void test_offloads_are_checked(void **state)
{
	(void)state;
	uint8_t frame[200];
	static const struct {
		struct virtio_net_hdr_v1 hdr;
		uint32_t len;
		bool good;
	} tries[] = {
		{{.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .csum_start = 34, .csum_offset = 16}, 200, true},
		{{.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .csum_start = 184, .csum_offset = 14}, 200, true},
		{{.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .csum_start = 184, .csum_offset = 15}, 200, false},
		{{.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .csum_start = 65535, .csum_offset = 65535}, 200, false},
		{{.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
		  .csum_start = 34,
		  .csum_offset = 16,
		  .gso_type = VIRTIO_NET_HDR_GSO_TCPV4,
		  .gso_size = 100},
		 200,
		 true},
		{{.gso_type = VIRTIO_NET_HDR_GSO_TCPV4, .gso_size = 100}, 200, false},
		{{.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
		  .csum_start = 34,
		  .csum_offset = 16,
		  .gso_type = VIRTIO_NET_HDR_GSO_TCPV4},
		 200,
		 false},
		{{.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
		  .csum_start = 34,
		  .csum_offset = 16,
		  .gso_type = VIRTIO_NET_HDR_GSO_UDP,
		  .gso_size = 100},
		 200,
		 false},
		{{.gso_type = 77}, 200, false},
		{{.flags = 0}, 13, false},
		{{.flags = 0}, 14, true},
	};
	fill(frame, sizeof(frame));
	boot_fake(0);
	for (size_t i = 0; i < ARRAY_LEN(tries); i++) {
		unsigned before = fake.sent;
		send_frame(&q[TX0], &tries[i].hdr, frame, tries[i].len);
		queue_wait(&q[TX0]);
		if (fake.sent - before != tries[i].good)
			fail_msg("offload %zu", i);
	}
	assert_false(needs_reset(&g));
	/* Less than a header is no frame at all. */
	gpa_t gpa = guest_alloc(&g, 64);
	queue_add(&q[TX0], (struct buffer[]){{gpa, HDR - 1}}, 1, 0);
	queue_kick(&q[TX0]);
	assert_true(needs_reset(&g));
	guest_end(&g);

	/* Nothing of it without agreement. */
	boot_fake(1u << VIRTIO_NET_F_CSUM | 1u << VIRTIO_NET_F_HOST_TSO4);
	send_frame(&q[TX0], &tries[0].hdr, frame, 200);
	queue_wait(&q[TX0]);
	assert_int_equal(fake.sent, 0);
	guest_end(&g);
}

static void test_receive(void **state)
{
	(void)state;
	static uint8_t frame[5000];
	struct virtio_net_hdr_v1 hdr = {.flags = VIRTIO_NET_HDR_F_DATA_VALID};
	fill(frame, sizeof(frame));
	boot_fake(0);
	gpa_t first = offer(&q[RX0], 2000), second = offer(&q[RX0], 2000);
	/* Too little room for it now: it waits, and the buffers stay the guest's to find untouched in number. */
	assert_false(virtio_net_receive(g.dev, &hdr, frame, sizeof(frame)));
	virtio_net_received(g.dev);
	struct vring_used_elem e;
	assert_false(queue_used(&q[RX0], &e));
	unsigned before = fake.rx_ready;
	gpa_t third = offer(&q[RX0], 2000);
	queue_kick(&q[RX0]);
	assert_int_equal(fake.rx_ready, before + 1);
	assert_true(virtio_net_receive(g.dev, &hdr, frame, sizeof(frame)));
	virtio_net_received(g.dev);
	assert_int_equal(queue_wait(&q[RX0]).len, 2000);
	assert_int_equal(queue_wait(&q[RX0]).len, 2000);
	assert_int_equal(queue_wait(&q[RX0]).len, sizeof(frame) + HDR - 4000);
	struct virtio_net_hdr_v1 *h = at(&g, first, HDR);
	assert_int_equal(h->num_buffers, 3);
	assert_int_equal(h->flags, VIRTIO_NET_HDR_F_DATA_VALID);
	assert_memory_equal(at(&g, first + HDR, 2000 - HDR), frame, 2000 - HDR);
	assert_memory_equal(at(&g, second, 2000), frame + 2000 - HDR, 2000);
	assert_memory_equal(at(&g, third, 1012), frame + 4000 - HDR, 1012);
	assert_true(g.irqs > 0);

	/* A header in pieces of one byte. */
	gpa_t gpa = guest_alloc(&g, 4096);
	struct buffer pieces[13];
	for (unsigned i = 0; i < 12; i++)
		pieces[i] = (struct buffer){gpa + 2 * i, 1};
	pieces[12] = (struct buffer){gpa + 100, 1500};
	queue_add(&q[RX0], pieces, 0, 13);
	assert_true(virtio_net_receive(g.dev, &hdr, frame, 60));
	assert_int_equal(queue_wait(&q[RX0]).len, 60 + HDR);
	assert_int_equal(*(uint8_t *)at(&g, gpa, 1), VIRTIO_NET_HDR_F_DATA_VALID);
	assert_int_equal(*(uint8_t *)at(&g, gpa + 20, 1), 1);
	assert_memory_equal(at(&g, gpa + 100, 60), frame, 60);

	/* Offloads of an earlier driver, frames of no size, a buffer without room. */
	hdr.gso_type = VIRTIO_NET_HDR_GSO_UDP;
	assert_true(virtio_net_receive(g.dev, &hdr, frame, 60));
	assert_true(virtio_net_receive(g.dev, NULL, frame, 13));
	assert_true(virtio_net_receive(g.dev, NULL, frame, NET_FRAME_MAX + 1));
	assert_false(needs_reset(&g));
	offer(&q[RX0], HDR);
	assert_true(virtio_net_receive(g.dev, NULL, frame, 60));
	assert_true(needs_reset(&g));
	guest_end(&g);

	/* Without mergeable buffers a frame fits or is lost. */
	boot_fake(1u << VIRTIO_NET_F_MRG_RXBUF | 1u << VIRTIO_NET_F_GUEST_CSUM);
	gpa = offer(&q[RX0], 1526);
	assert_true(virtio_net_receive(g.dev, NULL, frame, 2000));
	assert_false(queue_used(&q[RX0], &e));
	hdr = (struct virtio_net_hdr_v1){.flags = VIRTIO_NET_HDR_F_DATA_VALID};
	assert_true(virtio_net_receive(g.dev, &hdr, frame, 1514));
	assert_int_equal(queue_wait(&q[RX0]).len, 1526);
	h = at(&g, gpa, HDR);
	assert_int_equal(h->num_buffers, 1);
	assert_int_equal(h->flags, 0);
	assert_false(virtio_net_receive(g.dev, NULL, frame, 60));
	guest_end(&g);
}

static uint8_t command(uint8_t class, uint8_t cmd, const void *data, uint32_t len)
{
	gpa_t gpa = guest_alloc(&g, 64);
	uint8_t *p = at(&g, gpa, 64);
	p[0] = class;
	p[1] = cmd;
	memcpy(p + 2, data, len);
	p[60] = 0x55;
	queue_add(&q[CTL], (struct buffer[]){{gpa, 2}, {gpa + 2, len}, {gpa + 60, 1}}, 2, 1);
	queue_kick(&q[CTL]);
	assert_int_equal(queue_wait(&q[CTL]).len, 1);
	return p[60];
}

/* A TCP segment from port 1000 to 2000, or back. */
static size_t segment(uint8_t *frame, bool back)
{
	memset(frame, 0, 60);
	frame[12] = 8;
	frame[14] = 0x45;
	frame[23] = 6;
	frame[29] = back ? 2 : 1;
	frame[33] = back ? 1 : 2;
	frame[34] = back ? 2000 >> 8 : 1000 >> 8;
	frame[35] = (uint8_t)(back ? 2000 : 1000);
	frame[36] = back ? 1000 >> 8 : 2000 >> 8;
	frame[37] = (uint8_t)(back ? 1000 : 2000);
	return 60;
}

static void test_commands_and_pairs(void **state)
{
	(void)state;
	uint8_t frame[60], mac[6] = {2, 3, 4, 5, 6, 7};
	boot_fake(0);
	assert_int_equal(command(VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, mac, 6), VIRTIO_NET_OK);
	assert_int_equal(config_field(&g, 0, 4), 0x05040302);
	assert_int_equal(command(VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, mac, 5), VIRTIO_NET_ERR);
	assert_int_equal(command(VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, "\1", 1), VIRTIO_NET_OK);
	assert_int_equal(command(99, 0, "\1", 1), VIRTIO_NET_ERR);
	assert_int_equal(command(VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, "\0\0", 2), VIRTIO_NET_ERR);
	assert_int_equal(command(VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, "\3\0", 2), VIRTIO_NET_ERR);
	assert_int_equal(command(VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, "\2\0", 2), VIRTIO_NET_OK);
	/* What comes back goes where the connection was sent from. */
	offer(&q[RX0], 1526);
	offer(&q[RX1], 1526);
	send_frame(&q[TX1], &none, frame, (uint32_t)segment(frame, false));
	queue_wait(&q[TX1]);
	assert_true(virtio_net_receive(g.dev, NULL, frame, segment(frame, true)));
	virtio_net_received(g.dev);
	assert_int_equal(queue_wait(&q[RX1]).len, 60 + HDR);
	assert_int_equal(command(VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, "\1\0", 2), VIRTIO_NET_OK);
	assert_true(virtio_net_receive(g.dev, NULL, frame, segment(frame, true)));
	assert_int_equal(queue_wait(&q[RX0]).len, 60 + HDR);
	guest_end(&g);

	/* A driver that knows one pair has its commands at queue 2. */
	boot_fake(1u << VIRTIO_NET_F_MQ);
	q[CTL] = q[RX1];
	assert_int_equal(command(VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, "\1", 1), VIRTIO_NET_OK);
	assert_int_equal(command(VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, "\1\0", 2), VIRTIO_NET_ERR);
	guest_end(&g);
}

/* ---- packets ---- */

static void test_checksums(void **state)
{
	(void)state;
	uint8_t bytes[64] = {0};
	/* RFC 1071's example, at every alignment and with a tail. */
	static const uint8_t example[] = {0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7};
	for (int i = 0; i < 9; i++) {
		memcpy(bytes + i, example, sizeof(example));
		assert_int_equal(ntohs(net_sum(bytes + i, sizeof(example), 0)), 0xddf2);
		assert_int_equal(ntohs(net_sum(bytes + i, 7, 0)), 0xdcfb);
	}
	/* The sum of all is then the complement of what was there: of the pseudo header's sum. */
	uint16_t pseudo;
	fill(bytes, sizeof(bytes));
	memcpy(&pseudo, bytes + 20, sizeof(pseudo));
	assert_true(net_finish_checksum(bytes, 64, 14, 6));
	assert_int_equal(net_sum(bytes + 14, 50, 0), (uint16_t)~pseudo);
	assert_false(net_finish_checksum(bytes, 64, 65, 0));
	assert_false(net_finish_checksum(bytes, 64, 60, 3));
	assert_true(net_finish_checksum(bytes, 64, 60, 2));
	for (size_t len = 0; len < 64; len++)
		net_flow(bytes, len);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_config),
		cmocka_unit_test(test_send),
		cmocka_unit_test(test_offloads_are_checked),
		cmocka_unit_test(test_receive),
		cmocka_unit_test(test_commands_and_pairs),
		cmocka_unit_test(test_checksums),
	};
	device_report_to = quiet;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
