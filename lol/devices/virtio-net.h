/* SPDX-License-Identifier: BSD-2-Clause */
/* virtio-net, the network card (virtio 1.2, 5.1). What is behind it is a struct net_backend. */
#ifndef LOL_DEVICES_VIRTIO_NET_H
#define LOL_DEVICES_VIRTIO_NET_H

#include "net-backend.h"

#define NET_PAIRS_MAX 8u /* 2 * pairs + 1 queues have a bit each in kctl's notify word */

struct net_config {
	struct net_backend *backend; /* belongs to the card from the call on, also where that fails */
	uint8_t mac[6];
	uint16_t mtu;   /* 0: the back-end's */
	unsigned pairs; /* of receive and transmit queues that the driver may use, 1 to NET_PAIRS_MAX */
};

/* NULL with one line in err. */
struct virtio_dev *virtio_net_create(const struct virtio_env *env, const struct net_config *config,
				     char err[DEVICE_ERR]);

#endif
