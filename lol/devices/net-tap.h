/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A network card's back-end: a tap interface that is there already and belongs to the user (Documentation/networking/
 * tuntap.rst of the host's kernel). Frames go through with their offloads, nothing is done to them here.
 */
#ifndef LOL_DEVICES_NET_TAP_H
#define LOL_DEVICES_NET_TAP_H

#include "net-backend.h"

struct net_backend *net_tap_open(struct loop *loop, const char *ifname, char err[DEVICE_ERR]); /* NULL with err */

/*
 * Make fd, of /dev/net/tun in the interface's network namespace, the interface's: one that is there (with several queues where
 * it was made for that), or a new one where the caller may make one. 0 or -errno.
 */
int net_tap_take(int fd, const char *ifname);

/* The same as net_tap_open() on a descriptor that is configured already (tests: a datagram socket); takes it over also on failure. */
struct net_backend *net_tap_on_fd(struct loop *loop, int fd, char err[DEVICE_ERR]);

#endif
