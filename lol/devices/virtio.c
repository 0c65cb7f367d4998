/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Status, features, configuration changes and life of a virtio device (virtio 1.2, 2.1 to 2.6 and 3.1). See virtio.h.
 */
#include "virtio.h"

#include <linux/virtio_mmio.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define CORE_FEATURES \
	(UINT64_C(1) << VIRTIO_F_VERSION_1 | UINT64_C(1) << VIRTIO_RING_F_EVENT_IDX | \
	 UINT64_C(1) << VIRTIO_RING_F_INDIRECT_DESC)

struct virtio_dev *virtio_create(const struct virtio_env *env, const struct virtio_ops *ops,
				 const struct virtio_shape *shape, void *priv)
{
	if (!shape->nqueues || shape->nqueues > VIRTIO_QUEUES_MAX)
		return NULL;
	struct virtio_dev *dev = calloc(1, sizeof(*dev) + shape->nqueues * sizeof(dev->vq[0]));
	if (!dev)
		return NULL;
	dev->ops = ops;
	dev->priv = priv;
	dev->env = *env;
	if (!dev->env.isr)
		dev->env.isr = &dev->private_isr;
	dev->features = shape->features | CORE_FEATURES;
	dev->config = shape->config;
	dev->config_size = shape->config_size;
	dev->defer_fd = -1;
	dev->nqueues = shape->nqueues;
	for (unsigned i = 0; i < dev->nqueues; i++)
		dev->vq[i] = (struct virtq){.dev = dev, .index = i, .num_max = shape->queue_sizes[i]};
	return dev;
}

void virtio_destroy(struct virtio_dev *dev)
{
	if (!dev)
		return;
	dev->live = false;
	if (dev->ops->destroy)
		dev->ops->destroy(dev->priv);
	if (dev->defer_fd >= 0) {
		loop_del_fd(dev->env.loop, dev->defer_fd);
		close(dev->defer_fd);
	}
	free(dev);
}

static void interrupt(struct virtio_dev *dev, uint32_t cause)
{
	atomic_fetch_or(dev->env.isr, cause);
	irq_raise(&dev->env.irq);
}

void virtio_broken(struct virtio_dev *dev, const char *fmt, ...)
{
	if (!dev->complained) {
		char why[128];
		va_list ap;
		va_start(ap, fmt);
		vsnprintf(why, sizeof(why), fmt, ap);
		va_end(ap);
		device_report(REPORT_WARNING,
			      "virtio-%s: the guest's driver broke the rules (%s): stopped until it resets the device",
			      dev->ops->name, why);
		dev->complained = true;
	}
	dev->live = false;
	if (dev->status & VIRTIO_CONFIG_S_NEEDS_RESET)
		return;
	dev->status |= VIRTIO_CONFIG_S_NEEDS_RESET;
	if (dev->status & VIRTIO_CONFIG_S_DRIVER_OK) /* 2.1.2: only then the driver is told */
		interrupt(dev, VIRTIO_MMIO_INT_CONFIG);
}

void virtio_reset(struct virtio_dev *dev)
{
	if (dev->ops->reset)
		dev->ops->reset(dev->priv);
	dev->live = false;
	for (unsigned i = 0; i < dev->nqueues; i++)
		dev->vq[i] = (struct virtq){.dev = dev, .index = i, .num_max = dev->vq[i].num_max};
	dev->status = 0;
	dev->driver_features = 0;
	dev->features_sel = dev->driver_features_sel = dev->queue_sel = 0;
	dev->deferred = 0;
	atomic_store(dev->env.isr, 0);
}

static bool features_acceptable(const struct virtio_dev *dev)
{
	return !(dev->driver_features & ~dev->features) && virtio_has(dev, VIRTIO_F_VERSION_1);
}

void virtio_set_status(struct virtio_dev *dev, uint32_t status)
{
	status &= 0xff;
	if (!status) {
		virtio_reset(dev);
		return;
	}
	/* 2.2.2: the device refuses a feature set by not letting FEATURES_OK stick. */
	if (status & ~dev->status & VIRTIO_CONFIG_S_FEATURES_OK && !features_acceptable(dev))
		status &= ~(uint32_t)VIRTIO_CONFIG_S_FEATURES_OK;
	/* 2.1.1: the driver may only add bits, and NEEDS_RESET is ours. */
	uint8_t old = dev->status;
	dev->status |= status & ~(uint32_t)VIRTIO_CONFIG_S_NEEDS_RESET;
	if (!(dev->status & ~old & VIRTIO_CONFIG_S_DRIVER_OK))
		return;
	if (!(dev->status & VIRTIO_CONFIG_S_FEATURES_OK)) {
		virtio_broken(dev, "DRIVER_OK without agreed features");
		return;
	}
	if (dev->status & VIRTIO_CONFIG_S_NEEDS_RESET)
		return;
	dev->live = true;
	/* Buffers that were there before DRIVER_OK are found even where their notification came too early. */
	for (unsigned i = 0; i < dev->nqueues; i++)
		virtio_notify(dev, i);
}

void virtio_notify(struct virtio_dev *dev, uint32_t queue)
{
	if (dev->live && queue < dev->nqueues && dev->vq[queue].ready)
		dev->ops->notify(dev->priv, queue);
}

void virtio_config_changed(struct virtio_dev *dev)
{
	dev->config_generation++;
	if (dev->status & VIRTIO_CONFIG_S_DRIVER_OK)
		interrupt(dev, VIRTIO_MMIO_INT_CONFIG);
}

static void deferred_event(void *arg, uint32_t events)
{
	struct virtio_dev *dev = arg;
	uint64_t count, queues = dev->deferred;
	(void)events;
	if (read(dev->defer_fd, &count, sizeof(count)) != sizeof(count))
		return;
	dev->deferred = 0;
	for (unsigned i = 0; i < dev->nqueues; i++)
		if (queues >> i & 1)
			virtio_notify(dev, i);
}

void virtio_defer(struct virtio_dev *dev, unsigned queue)
{
	if (dev->defer_fd < 0) {
		int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
		if (fd < 0 || loop_add_fd(dev->env.loop, fd, EPOLLIN, deferred_event, dev)) {
			device_report(REPORT_WARNING, "virtio-%s: no eventfd for the device: it may stall",
				      dev->ops->name);
			if (fd >= 0)
				close(fd);
			return;
		}
		dev->defer_fd = fd;
	}
	uint64_t one = 1;
	dev->deferred |= UINT64_C(1) << queue;
	if (write(dev->defer_fd, &one, sizeof(one)) < 0)
		return; /* the counter is at its maximum: the event is pending anyway */
}

void virtq_signal(struct virtq *vq)
{
	struct virtio_dev *dev = vq->dev;
	if (!dev->live || !vq->ready)
		return;
	uint16_t old = vq->signalled;
	if (vq->used_idx == old)
		return;
	bool wanted;
	/* The used index must be visible before we look whether the driver wants to hear of it (2.7.7.1, 2.7.10). */
	atomic_thread_fence(memory_order_seq_cst);
	if (virtio_has(dev, VIRTIO_RING_F_EVENT_IDX))
		wanted = vring_need_event(__atomic_load_n(&vq->avail->ring[vq->num], __ATOMIC_RELAXED), vq->used_idx,
					  old);
	else
		wanted = !(__atomic_load_n(&vq->avail->flags, __ATOMIC_RELAXED) & VRING_AVAIL_F_NO_INTERRUPT);
	vq->signalled = vq->used_idx;
	if (wanted)
		interrupt(dev, VIRTIO_MMIO_INT_VRING);
}
