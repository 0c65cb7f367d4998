/* SPDX-License-Identifier: BSD-2-Clause */
/* For tests of virtio-net: a guest's driver with two pairs of queues, over any back-end. */
#ifndef LOL_TEST_VIRTIO_NET_H
#define LOL_TEST_VIRTIO_NET_H

#include "test-virtio-driver.h"
#include "devices/virtio-net.h"

#define HDR sizeof(struct virtio_net_hdr_v1)
#define PAIRS 2u
enum { RX0, TX0, RX1, TX1, CTL, QUEUES };

static struct guest g;
static struct driver_queue q[QUEUES];
static char err[DEVICE_ERR];

static inline void plug(struct net_backend *b)
{
	struct virtio_env env = guest_env(&g);
	struct net_config c = {.backend = b, .mac = {0x52, 0x54, 0, 1, 2, 3}, .pairs = PAIRS};
	assert_non_null(b);
	guest_plug(&g, virtio_net_create(&env, &c, err));
}

static inline void boot(struct net_backend *b, uint64_t without)
{
	plug(b);
	assert_true(driver_negotiate(&g, device_features(&g) & ~without));
	for (unsigned i = 0; i < QUEUES; i++)
		queue_start(&q[i], &g, i, 32);
	driver_ok(&g);
}

/* A frame with header in two buffers on queue tx; returns its place. The card is not told. */
static inline uint8_t *add_frame(struct driver_queue *tx, const struct virtio_net_hdr_v1 *hdr, const void *frame,
				 uint32_t len)
{
	gpa_t gpa = guest_alloc(&g, HDR + len);
	uint8_t *p = at(&g, gpa, HDR + len);
	memcpy(p, hdr, HDR);
	memcpy(p + HDR, frame, len);
	queue_add(tx, (struct buffer[]){{gpa, HDR}, {gpa + HDR, len}}, 2, 0);
	return p;
}

static inline uint8_t *send_frame(struct driver_queue *tx, const struct virtio_net_hdr_v1 *hdr, const void *frame,
				  uint32_t len)
{
	uint8_t *p = add_frame(tx, hdr, frame, len);
	queue_kick(tx);
	return p;
}

static inline gpa_t offer(struct driver_queue *rx, uint32_t len)
{
	gpa_t gpa = guest_alloc(&g, len);
	queue_add(rx, (struct buffer[]){{gpa, len}}, 0, 1);
	return gpa;
}

static const struct virtio_net_hdr_v1 none;

static inline void fill(uint8_t *p, size_t len)
{
	for (size_t i = 0; i < len; i++)
		p[i] = (uint8_t)(i * 7 + i / 251);
}

#endif
