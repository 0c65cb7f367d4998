/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A network card's back-end: libslirp, a TCP/IP stack that turns the guest's connections into sockets of the user's. The
 * guest is 10.0.2.15 (DHCP), the host 10.0.2.2, its name server 10.0.2.3; fec0::/64 for IPv6. Nothing from outside reaches
 * the guest but what is forwarded.
 *
 * libslirp runs in the loop thread. It asks, each time before the loop waits, for what it wants to wait for.
 */
#ifndef LOL_DEVICES_NET_USER_H
#define LOL_DEVICES_NET_USER_H

#include "net-backend.h"

/* What comes to host_addr:host_port reaches guest_port. */
struct net_forward {
	bool udp;
	const char *host_addr; /* IPv4, dotted; NULL: all addresses of the host */
	uint16_t host_port, guest_port;
};

/* mtu: 0 or that of the card. NULL with one line in err. */
struct net_backend *net_user_open(struct loop *loop, uint16_t mtu, const struct net_forward *forwards, unsigned count,
				  char err[DEVICE_ERR]);

#endif
