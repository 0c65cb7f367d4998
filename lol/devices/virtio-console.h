/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * virtio-console with several ports (virtio 1.2, 5.3, MULTIPORT): port 0 is the console hvc0, the others are byte
 * channels that the guest finds by name (/dev/virtio-ports/NAME or sysfs). Runs in the loop's thread.
 *
 * Back-pressure goes both ways and nothing is dropped: what a port's host side does not take stays in the guest's queue,
 * and virtio_console_send() takes only what fits into buffers that the guest has supplied.
 */
#ifndef LOL_DEVICES_VIRTIO_CONSOLE_H
#define LOL_DEVICES_VIRTIO_CONSOLE_H

#include "virtio.h"

#define CONSOLE_PORTS_MAX 8u

/* The host's side of a port. Any of the functions may be NULL: output is dropped, the rest ignored. */
struct console_port_ops {
	/* Bytes from the guest; returns how many were taken. After less than len: virtio_console_resume() when there is room. */
	size_t (*output)(void *ctx, const uint8_t *bytes, size_t len);
	/* The guest can take bytes again, after virtio_console_send() took less than all. */
	void (*input_room)(void *ctx);
	/* The guest has opened or closed the port; all its output up to the closing has been delivered. */
	void (*opened)(void *ctx, bool open);
	/* All that the guest has written so far has been taken. */
	void (*drained)(void *ctx);
};

struct console_port_config {
	const char *name; /* NULL for the console */
	const struct console_port_ops *ops;
	void *ctx;
};

/* ports[0] is the console. NULL with one line in err. */
struct virtio_dev *virtio_console_create(const struct virtio_env *env, const struct console_port_config *ports,
					 unsigned nports, char err[DEVICE_ERR]);
/* Put another host side behind a port. */
void virtio_console_attach(struct virtio_dev *dev, unsigned port, const struct console_port_ops *ops, void *ctx);

/* Send bytes to the guest; returns how many were taken: 0 while the guest has not opened the port. */
size_t virtio_console_send(struct virtio_dev *dev, unsigned port, const uint8_t *bytes, size_t len);
/* ops->output has room again. */
void virtio_console_resume(struct virtio_dev *dev, unsigned port);
/* Deliver what the guest has put into the port's queue; true when nothing is left in it, else ops->drained() will tell. */
bool virtio_console_drain(struct virtio_dev *dev, unsigned port);
/*
 * Tell the guest that the host's side is open (the default) or closed. What was sent before a closing is still read; then
 * the guest reads an end of file, or gets a hang-up when it writes.
 */
void virtio_console_set_open(struct virtio_dev *dev, unsigned port, bool open);
bool virtio_console_is_open(const struct virtio_dev *dev, unsigned port);         /* the host's side */
void virtio_console_resize(struct virtio_dev *dev, uint16_t rows, uint16_t cols); /* of the console */

#endif
