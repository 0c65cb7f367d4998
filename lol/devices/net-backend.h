/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a network card (virtio-net.c) and the thing behind it (net-user.c, net-tap.c, net-stream.c) have in common. All of it
 * runs in the monitor's loop thread. A frame is an Ethernet frame without its checksum, 14 bytes or more; offloads travel
 * beside it in a struct virtio_net_hdr_v1 (virtio 1.2, 5.1.6), whose fields the card has checked against what was agreed.
 *
 * Back-pressure, both ways: a back-end that cannot take a frame returns false from send() and calls virtio_net_resume()
 * later; a card without receive buffers returns false from virtio_net_receive() and calls rx_ready() later.
 */
#ifndef LOL_DEVICES_NET_BACKEND_H
#define LOL_DEVICES_NET_BACKEND_H

#include "virtio.h"

#include <linux/virtio_net.h>

#define NET_FRAME_MIN 14u
#define NET_FRAME_MAX 65562u /* Ethernet and VLAN header, 65535 bytes of IPv6 payload behind its header */
#define NET_MTU_MIN 1280u    /* IPv6's */
#define NET_MTU_MAX 65520u
#define NET_TURN_FRAMES 64u /* from a back-end to the guest, in one turn of the loop */

struct net_backend;

struct net_backend_ops {
	/*
	 * A frame from the guest, len bytes in iov. The buffers are guest memory: what is in them is read once. False: not now,
	 * and iov is as it was. A frame that nobody can be given is dropped (true).
	 */
	bool (*send)(struct net_backend *b, const struct virtio_net_hdr_v1 *hdr, struct iovec *iov, unsigned count,
		     size_t len);
	void (*flush)(struct net_backend *b);    /* the end of a batch of send(); NULL: each goes out by itself */
	void (*rx_ready)(struct net_backend *b); /* the guest has receive buffers, again or for the first time */
	/* The driver is at work with these feature bits; 0: it is gone. NULL: of no interest. */
	void (*agreed)(struct net_backend *b, uint64_t features);
	void (*destroy)(struct net_backend *b);
};

/* The first member of each back-end's own struct. */
struct net_backend {
	const struct net_backend_ops *ops;
	uint64_t features;      /* offload bits (VIRTIO_NET_F_*) that it can honour */
	uint16_t mtu;           /* largest that makes sense; 0: the guest's own default, 1500 */
	bool down;              /* no carrier at the start */
	struct virtio_dev *dev; /* the card; set by virtio_net_create() */
};

/* For back-ends. All of them may call back into the back-end's send(). */

/* A frame for the guest. False: it has no buffer now; rx_ready() follows. hdr NULL: no offloads, checksums to be verified. */
bool virtio_net_receive(struct virtio_dev *dev, const struct virtio_net_hdr_v1 *hdr, const void *frame, size_t len);
void virtio_net_received(struct virtio_dev *dev); /* the end of a batch: interrupt the driver if it wants that */
void virtio_net_resume(struct virtio_dev *dev);   /* after a send() that gave false */
void virtio_net_set_link(struct virtio_dev *dev, bool up);

#endif
