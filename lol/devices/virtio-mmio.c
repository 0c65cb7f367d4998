/* SPDX-License-Identifier: BSD-2-Clause */
#include "virtio-mmio.h"

#include <linux/virtio_mmio.h>
#include <string.h>

#define MAGIC 0x74726976u /* "virt" */
#define VERSION 2u
#define VENDOR 0x4c6f4cu /* "LoL" */

static struct virtq *selected(struct virtio_dev *dev)
{
	return dev->queue_sel < dev->nqueues ? &dev->vq[dev->queue_sel] : NULL;
}

static uint32_t half(uint64_t value, uint32_t select)
{
	return select > 1 ? 0 : (uint32_t)(value >> (32 * select));
}

static uint64_t config_read(const struct virtio_dev *dev, uint64_t offset, unsigned size)
{
	uint64_t value = 0;
	if (offset < dev->config_size)
		memcpy(&value, (const uint8_t *)dev->config + offset, MIN((uint64_t)size, dev->config_size - offset));
	return value;
}

static void config_write(struct virtio_dev *dev, uint64_t offset, uint64_t value, unsigned size)
{
	if (dev->ops->config_write && offset < dev->config_size && size <= dev->config_size - offset)
		dev->ops->config_write(dev->priv, (uint32_t)offset, &value, size);
}

static uint32_t read_register(struct virtio_dev *dev, uint64_t offset)
{
	const struct virtq *vq = selected(dev);
	switch (offset) {
	case VIRTIO_MMIO_MAGIC_VALUE:
		return MAGIC;
	case VIRTIO_MMIO_VERSION:
		return VERSION;
	case VIRTIO_MMIO_DEVICE_ID:
		return dev->ops->device_id;
	case VIRTIO_MMIO_VENDOR_ID:
		return VENDOR;
	case VIRTIO_MMIO_DEVICE_FEATURES:
		return half(dev->features, dev->features_sel);
	case VIRTIO_MMIO_QUEUE_NUM_MAX:
		return vq ? vq->num_max : 0;
	case VIRTIO_MMIO_QUEUE_READY:
		return vq && vq->ready;
	case VIRTIO_MMIO_INTERRUPT_STATUS:
		return atomic_load(dev->env.isr);
	case VIRTIO_MMIO_STATUS:
		return dev->status;
	case VIRTIO_MMIO_CONFIG_GENERATION:
		return dev->config_generation;
	case VIRTIO_MMIO_SHM_LEN_LOW: /* 4.2.2: a region that does not exist has the length -1 */
	case VIRTIO_MMIO_SHM_LEN_HIGH:
	case VIRTIO_MMIO_SHM_BASE_LOW:
	case VIRTIO_MMIO_SHM_BASE_HIGH:
		return UINT32_MAX;
	default:
		return 0;
	}
}

static uint64_t mmio_read(void *arg, uint64_t offset, unsigned size)
{
	struct virtio_dev *dev = arg;
	if (offset >= VIRTIO_MMIO_CONFIG)
		return config_read(dev, offset - VIRTIO_MMIO_CONFIG, size);
	/* 4.2.2.2: control registers are accessed as aligned 32-bit words only. */
	return size == 4 && !(offset & 3) ? read_register(dev, offset) : 0;
}

static void set_driver_features(struct virtio_dev *dev, uint32_t value)
{
	if (dev->status & VIRTIO_CONFIG_S_FEATURES_OK || dev->driver_features_sel > 1)
		return; /* 3.1.1: not after FEATURES_OK */
	unsigned shift = 32 * dev->driver_features_sel;
	dev->driver_features &= ~((uint64_t)UINT32_MAX << shift);
	dev->driver_features |= (uint64_t)value << shift;
}

static void set_queue_ready(struct virtio_dev *dev, struct virtq *vq, uint32_t value)
{
	if (!value) {
		/* Without RING_RESET a driver takes a queue away by a device reset; requests in flight would lose their ring. */
		if (dev->live && vq->inflight)
			virtio_broken(dev, "queue %u taken away with %u buffers in flight", vq->index, vq->inflight);
		vq->ready = false;
		return;
	}
	if (vq->ready)
		return;
	if (!virtq_set_ready(vq))
		virtio_broken(dev, "queue %u: size %u or ring addresses out of range", vq->index, vq->num);
	else if (dev->live)
		virtio_notify(dev, vq->index);
}

static void set_half(uint64_t *value, uint32_t word, bool high)
{
	unsigned shift = high ? 32 : 0;
	*value = (*value & ~((uint64_t)UINT32_MAX << shift)) | (uint64_t)word << shift;
}

/* Registers of the selected queue; its shape is fixed while it is ready. */
static void write_queue_register(struct virtio_dev *dev, uint64_t offset, uint32_t value)
{
	struct virtq *vq = selected(dev);
	if (!vq)
		return;
	if (offset == VIRTIO_MMIO_QUEUE_READY) {
		set_queue_ready(dev, vq, value);
		return;
	}
	if (vq->ready)
		return;
	switch (offset) {
	case VIRTIO_MMIO_QUEUE_NUM:
		vq->num = value;
		break;
	case VIRTIO_MMIO_QUEUE_DESC_LOW:
	case VIRTIO_MMIO_QUEUE_DESC_HIGH:
		set_half(&vq->desc_gpa, value, offset == VIRTIO_MMIO_QUEUE_DESC_HIGH);
		break;
	case VIRTIO_MMIO_QUEUE_AVAIL_LOW:
	case VIRTIO_MMIO_QUEUE_AVAIL_HIGH:
		set_half(&vq->avail_gpa, value, offset == VIRTIO_MMIO_QUEUE_AVAIL_HIGH);
		break;
	case VIRTIO_MMIO_QUEUE_USED_LOW:
	case VIRTIO_MMIO_QUEUE_USED_HIGH:
		set_half(&vq->used_gpa, value, offset == VIRTIO_MMIO_QUEUE_USED_HIGH);
		break;
	}
}

static void mmio_write(void *arg, uint64_t offset, uint64_t value64, unsigned size)
{
	struct virtio_dev *dev = arg;
	uint32_t value = (uint32_t)value64;
	if (offset >= VIRTIO_MMIO_CONFIG) {
		config_write(dev, offset - VIRTIO_MMIO_CONFIG, value64, size);
		return;
	}
	if (size != 4 || offset & 3)
		return;
	switch (offset) {
	case VIRTIO_MMIO_DEVICE_FEATURES_SEL:
		dev->features_sel = value;
		break;
	case VIRTIO_MMIO_DRIVER_FEATURES:
		set_driver_features(dev, value);
		break;
	case VIRTIO_MMIO_DRIVER_FEATURES_SEL:
		dev->driver_features_sel = value;
		break;
	case VIRTIO_MMIO_QUEUE_SEL:
		dev->queue_sel = value;
		break;
	case VIRTIO_MMIO_QUEUE_NOTIFY:
		virtio_mmio_notify(dev, value);
		break;
	case VIRTIO_MMIO_INTERRUPT_ACK:
		atomic_fetch_and(dev->env.isr, ~value);
		break;
	case VIRTIO_MMIO_STATUS:
		virtio_set_status(dev, value);
		break;
	default:
		write_queue_register(dev, offset, value);
	}
}

const struct bus_ops virtio_mmio_ops = {.read = mmio_read, .write = mmio_write};

int virtio_mmio_attach(struct bus *bus, unsigned slot, struct virtio_dev *dev)
{
	return bus_add_mmio(bus, VIRTIO_MMIO_BASE + slot * VIRTIO_MMIO_STRIDE, VIRTIO_MMIO_SIZE, &virtio_mmio_ops, dev);
}

void virtio_mmio_notify(struct virtio_dev *dev, uint32_t queue)
{
	virtio_notify(dev, queue);
}
