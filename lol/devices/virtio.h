/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What all virtio devices share: device status and feature negotiation, and the device's side of the split virtqueue
 * (virtio 1.2, sections 2 and 2.7). virtio-mmio.c puts a register file in front of it. Runs in the monitor's loop thread.
 *
 * A device is one file: its struct virtio_ops, its struct virtio_shape and a create function, which the machine calls with
 * what the device needs and puts on the bus with virtio_mmio_attach(): that call is its registration.
 *
 * Everything in guest RAM may change at any time under our hands, so each ring field and each descriptor is read once,
 * into a local copy, and checked there. A driver that breaks the rules gets DEVICE_NEEDS_RESET (2.1.2) and one line of
 * report; until it resets the device, its queues are dead. Host and guest are both little-endian: no byte swapping.
 */
#ifndef LOL_DEVICES_VIRTIO_H
#define LOL_DEVICES_VIRTIO_H

#include "../loop.h"
#include "../ram.h"
#include "../types.h"
#include "irq.h"
#include "report.h"

#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_ring.h>
#include <stdatomic.h>
#include <sys/uio.h>

#define VIRTQ_SIZE_MAX 1024u
#define VIRTIO_QUEUES_MAX 64u

/* What the machine hands to every device it creates. */
struct virtio_env {
	struct loop *loop;
	const struct guest_ram *ram;
	struct irq_line irq;
	_Atomic uint32_t
		*isr; /* InterruptStatus, in memory shared with K, which reads and acknowledges; NULL: private */
};

struct virtio_ops {
	const char *name; /* of the device type, for reports */
	uint32_t device_id;
	void (*config_write)(void *priv, uint32_t offset, const void *data, unsigned size); /* NULL: read-only */
	void (*notify)(void *priv, unsigned queue); /* the driver has put buffers into a live queue */
	/* Returns only when no I/O touches the guest's buffers any more (2.4); the queues are still there. */
	void (*reset)(void *priv);
	void (*destroy)(void *priv);
};

struct virtio_shape {
	uint64_t features; /* VERSION_1, EVENT_IDX and INDIRECT_DESC are added by the core */
	unsigned nqueues;
	const uint16_t *queue_sizes; /* powers of two up to VIRTQ_SIZE_MAX; copied */
	void *config;                /* the device's configuration structure, belongs to it */
	uint32_t config_size;
};

struct virtio_dev;

struct virtq {
	struct virtio_dev *dev;
	unsigned index;
	unsigned num, num_max;
	bool ready;
	gpa_t desc_gpa, avail_gpa, used_gpa; /* as the driver wrote them */
	/* valid while ready */
	struct vring_desc *desc;
	struct vring_avail *avail;
	struct vring_used *used;
	uint16_t last_avail; /* the next entry of avail that we take */
	uint16_t used_idx;   /* ours, never read back from the guest */
	uint16_t signalled;  /* used_idx when the driver was last considered for an interrupt */
	unsigned inflight;   /* chains popped and not pushed */
};

struct virtio_dev {
	const struct virtio_ops *ops;
	void *priv;
	struct virtio_env env;
	_Atomic uint32_t private_isr;
	uint64_t features;        /* offered */
	uint64_t driver_features; /* accepted, once FEATURES_OK is set */
	uint32_t features_sel, driver_features_sel, queue_sel;
	uint32_t config_generation;
	uint8_t status;
	bool live; /* DRIVER_OK and not broken: queues may be used */
	bool complained;
	void *config;
	uint32_t config_size;
	int defer_fd;      /* eventfd, -1 until first used */
	uint64_t deferred; /* queues to be notified again, one bit each */
	unsigned nqueues;
	struct virtq vq[];
};

/* A descriptor chain: first what the driver sends (out), then what the device fills (in). */
struct virtq_chain {
	uint16_t head;
	unsigned out_count, in_count;
	uint64_t out_len, in_len; /* bytes; together at most 4 GiB */
	struct iovec *out, *in;   /* both in the caller's array */
};

/* Device life; priv belongs to the device from success on (ops->destroy). NULL: no memory. */
struct virtio_dev *virtio_create(const struct virtio_env *env, const struct virtio_ops *ops,
				 const struct virtio_shape *shape, void *priv);
void virtio_destroy(struct virtio_dev *dev);

/* For the transport. Every argument is hostile. */
void virtio_set_status(struct virtio_dev *dev, uint32_t status);
void virtio_notify(struct virtio_dev *dev, uint32_t queue);
bool virtq_set_ready(struct virtq *vq); /* false: the addresses or the size are no good */
void virtio_reset(struct virtio_dev *dev);

/* For devices. */
static inline bool virtio_has(const struct virtio_dev *dev, unsigned feature_bit)
{
	return dev->driver_features >> feature_bit & 1;
}
void virtio_config_changed(struct virtio_dev *dev); /* after a change of *config: generation and interrupt */
void virtio_broken(struct virtio_dev *dev, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Have ops->notify called for queue in another turn of the loop: a handler does a bounded amount of work, then this. */
void virtio_defer(struct virtio_dev *dev, unsigned queue);

/*
 * Take the next chain. iov has room for cap >= vq->num_max entries. False: there is none (and the driver has been asked
 * to notify us of the next one), or the device is not live.
 */
bool virtq_pop(struct virtq *vq, struct virtq_chain *chain, struct iovec *iov, unsigned cap);
bool virtq_pending(struct virtq *vq);                               /* a pop would give a chain */
void virtq_push(struct virtq *vq, uint16_t head, uint32_t written); /* written: bytes put into the in part */
/* Several at once: the driver sees all of them or none. */
void virtq_push_all(struct virtq *vq, const struct vring_used_elem *chains, unsigned count);
/* Give the chains popped last back, as if they had not been popped; none of them may have been pushed. */
void virtq_unpop(struct virtq *vq, unsigned chains);
void virtq_signal(struct virtq *vq); /* after pushes: interrupt the driver if it wants that */

/* Copy between a buffer and a list of iovecs, consuming the list; return the bytes copied. */
size_t iov_take(struct iovec **iov, unsigned *count, void *buf, size_t len);
size_t iov_put(struct iovec **iov, unsigned *count, const void *buf, size_t len);
void iov_skip(struct iovec **iov, unsigned *count, size_t len);

#endif
