/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * virtio over MMIO, register layout version 2 (virtio 1.2, 4.2). Slot n sits at VIRTIO_MMIO_BASE + n * VIRTIO_MMIO_STRIDE.
 *
 * InterruptStatus (0x60) and InterruptACK (0x64) work here too, but K answers them itself on the shared isr word. A write
 * to QueueNotify (0x50) may likewise reach us as virtio_mmio_notify() instead of a bus access.
 */
#ifndef LOL_DEVICES_VIRTIO_MMIO_H
#define LOL_DEVICES_VIRTIO_MMIO_H

#include "bus.h"
#include "virtio.h"

#define VIRTIO_MMIO_BASE 0xd0000000ull
#define VIRTIO_MMIO_STRIDE 0x1000ull
#define VIRTIO_MMIO_SIZE 0x200ull

extern const struct bus_ops virtio_mmio_ops; /* the device argument is a struct virtio_dev */

int virtio_mmio_attach(struct bus *bus, unsigned slot, struct virtio_dev *dev); /* 0 or a negative errno */
void virtio_mmio_notify(struct virtio_dev *dev, uint32_t queue);

#endif
