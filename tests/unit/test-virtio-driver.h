/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A small virtio driver for unit tests: it drives a device as a guest does, through its MMIO registers and virtqueues in a
 * piece of ordinary memory that plays guest RAM. It can also build broken rings.
 */
#ifndef TEST_VIRTIO_DRIVER_H
#define TEST_VIRTIO_DRIVER_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "devices/virtio-mmio.h"

#include <linux/virtio_mmio.h>
#include <stdlib.h>
#include <string.h>

#define RAM_BYTES (4ull << 20)
#define LOW_BYTES (3ull << 20) /* so that there is RAM above 4 GiB too */

struct guest {
	struct guest_ram ram;
	struct loop *loop;
	struct bus bus;
	struct virtio_dev *dev;
	_Atomic uint32_t isr;
	unsigned irqs; /* times that the line was raised */
	gpa_t next;    /* free guest RAM */
};

struct driver_queue {
	struct guest *g;
	unsigned index, num;
	gpa_t desc_gpa, avail_gpa, used_gpa;
	struct vring_desc *desc;
	struct vring_avail *avail;
	struct vring_used *used;
	unsigned next_desc;
	uint16_t last_used;
};

struct buffer {
	gpa_t gpa;
	uint32_t len;
};

static inline void guest_irq(void *ctx, unsigned line)
{
	assert_int_equal(line, 7);
	((struct guest *)ctx)->irqs++;
}

static inline void guest_start(struct guest *g)
{
	memset(g, 0, sizeof(*g));
	g->ram = (struct guest_ram){.base = calloc(1, RAM_BYTES), .size = RAM_BYTES, .low = LOW_BYTES, .fd = -1};
	assert_non_null(g->ram.base);
	g->loop = loop_create();
	assert_non_null(g->loop);
	bus_init(&g->bus);
	g->next = PAGE_SIZE;
}

static inline struct virtio_env guest_env(struct guest *g)
{
	return (struct virtio_env){.loop = g->loop, .ram = &g->ram, .irq = {guest_irq, g, 7}, .isr = &g->isr};
}

static inline void guest_plug(struct guest *g, struct virtio_dev *dev)
{
	assert_non_null(dev);
	g->dev = dev;
	assert_int_equal(virtio_mmio_attach(&g->bus, 0, dev), 0);
}

static inline void guest_end(struct guest *g)
{
	virtio_destroy(g->dev);
	bus_fini(&g->bus);
	loop_destroy(g->loop);
	free(g->ram.base);
}

static inline gpa_t guest_alloc(struct guest *g, uint64_t len)
{
	gpa_t gpa = g->next;
	g->next += ALIGN_UP(MAX(len, 1ull), 64ull);
	assert_true(g->next <= LOW_BYTES);
	return gpa;
}

static inline void *at(struct guest *g, gpa_t gpa, uint64_t len)
{
	void *p = ram_ptr(&g->ram, gpa, len);
	assert_non_null(p);
	return p;
}

static inline uint32_t reg_read(struct guest *g, uint64_t reg)
{
	return (uint32_t)bus_read(&g->bus, BUS_MMIO, VIRTIO_MMIO_BASE + reg, 4);
}

static inline void reg_write(struct guest *g, uint64_t reg, uint32_t value)
{
	bus_write(&g->bus, BUS_MMIO, VIRTIO_MMIO_BASE + reg, value, 4);
}

static inline uint64_t config_field(struct guest *g, uint64_t offset, unsigned size)
{
	return bus_read(&g->bus, BUS_MMIO, VIRTIO_MMIO_BASE + VIRTIO_MMIO_CONFIG + offset, size);
}

static inline uint64_t device_features(struct guest *g)
{
	reg_write(g, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 1);
	uint64_t f = (uint64_t)reg_read(g, VIRTIO_MMIO_DEVICE_FEATURES) << 32;
	reg_write(g, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 0);
	return f | reg_read(g, VIRTIO_MMIO_DEVICE_FEATURES);
}

/* 3.1.1 up to FEATURES_OK; false where the device refuses. */
static inline bool driver_negotiate(struct guest *g, uint64_t features)
{
	reg_write(g, VIRTIO_MMIO_STATUS, 0);
	reg_write(g, VIRTIO_MMIO_STATUS, VIRTIO_CONFIG_S_ACKNOWLEDGE);
	reg_write(g, VIRTIO_MMIO_STATUS, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
	reg_write(g, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
	reg_write(g, VIRTIO_MMIO_DRIVER_FEATURES, (uint32_t)(features >> 32));
	reg_write(g, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 0);
	reg_write(g, VIRTIO_MMIO_DRIVER_FEATURES, (uint32_t)features);
	reg_write(g, VIRTIO_MMIO_STATUS,
		  VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK);
	return reg_read(g, VIRTIO_MMIO_STATUS) & VIRTIO_CONFIG_S_FEATURES_OK;
}

static inline void driver_ok(struct guest *g)
{
	reg_write(g, VIRTIO_MMIO_STATUS, reg_read(g, VIRTIO_MMIO_STATUS) | VIRTIO_CONFIG_S_DRIVER_OK);
}

static inline bool needs_reset(struct guest *g)
{
	return reg_read(g, VIRTIO_MMIO_STATUS) & VIRTIO_CONFIG_S_NEEDS_RESET;
}

static inline void write_address(struct guest *g, uint64_t low_reg, gpa_t gpa)
{
	reg_write(g, low_reg, (uint32_t)gpa);
	reg_write(g, low_reg + 4, (uint32_t)(gpa >> 32));
}

static inline void queue_program(struct driver_queue *q)
{
	struct guest *g = q->g;
	reg_write(g, VIRTIO_MMIO_QUEUE_SEL, q->index);
	reg_write(g, VIRTIO_MMIO_QUEUE_NUM, q->num);
	write_address(g, VIRTIO_MMIO_QUEUE_DESC_LOW, q->desc_gpa);
	write_address(g, VIRTIO_MMIO_QUEUE_AVAIL_LOW, q->avail_gpa);
	write_address(g, VIRTIO_MMIO_QUEUE_USED_LOW, q->used_gpa);
	reg_write(g, VIRTIO_MMIO_QUEUE_READY, 1);
}

static inline void queue_start(struct driver_queue *q, struct guest *g, unsigned index, unsigned num)
{
	*q = (struct driver_queue){.g = g, .index = index, .num = num};
	q->desc_gpa = guest_alloc(g, 16 * num);
	q->avail_gpa = guest_alloc(g, 6 + 2 * num);
	q->used_gpa = guest_alloc(g, 6 + 8 * num);
	q->desc = at(g, q->desc_gpa, 16 * num);
	q->avail = at(g, q->avail_gpa, 6 + 2 * num);
	q->used = at(g, q->used_gpa, 6 + 8 * num);
	memset(q->avail, 0, 6 + 2 * num);
	memset(q->used, 0, 6 + 8 * num);
	queue_program(q);
	assert_int_equal(reg_read(g, VIRTIO_MMIO_QUEUE_READY), 1);
}

static inline void queue_publish(struct driver_queue *q, uint16_t head)
{
	q->avail->ring[q->avail->idx % q->num] = head;
	__atomic_store_n(&q->avail->idx, (uint16_t)(q->avail->idx + 1), __ATOMIC_RELEASE);
}

/* Make a chain of out buffers, then in buffers, available; returns its head. Descriptors are taken round robin. */
static inline uint16_t queue_add(struct driver_queue *q, const struct buffer *b, unsigned nout, unsigned nin)
{
	uint16_t head = (uint16_t)(q->next_desc % q->num);
	for (unsigned i = 0; i < nout + nin; i++) {
		struct vring_desc *d = &q->desc[q->next_desc++ % q->num];
		d->addr = b[i].gpa;
		d->len = b[i].len;
		d->flags =
			(uint16_t)((i >= nout ? VRING_DESC_F_WRITE : 0) | (i + 1 < nout + nin ? VRING_DESC_F_NEXT : 0));
		d->next = (uint16_t)(q->next_desc % q->num);
	}
	queue_publish(q, head);
	return head;
}

static inline void queue_kick(struct driver_queue *q)
{
	reg_write(q->g, VIRTIO_MMIO_QUEUE_NOTIFY, q->index);
}

/* The next used element; false when there is none yet. */
static inline bool queue_used(struct driver_queue *q, struct vring_used_elem *e)
{
	if (__atomic_load_n(&q->used->idx, __ATOMIC_ACQUIRE) == q->last_used)
		return false;
	*e = q->used->ring[q->last_used++ % q->num];
	return true;
}

/* The same, turning the loop until it comes. */
static inline struct vring_used_elem queue_wait(struct driver_queue *q)
{
	struct vring_used_elem e;
	for (int turns = 0; !queue_used(q, &e); turns++) {
		if (turns > 5000)
			fail_msg("queue %u: nothing comes", q->index);
		loop_turn(q->g->loop, 10);
	}
	return e;
}

static inline void turn(struct guest *g, int times)
{
	while (times--)
		loop_turn(g->loop, 0);
}

static inline void quiet(enum report_level level, const char *line)
{
	(void)level;
	(void)line;
}

#endif
