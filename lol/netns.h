/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A network namespace of a VM's own, for --net tap,netns=new: an ordinary user makes tap interfaces in there, and nobody
 * else is in it. A process keeps it, in a user namespace in which the user is root:
 *
 *   nsenter --preserve-credentials -t PID -U -n COMMAND
 *
 * runs a program in there; pasta(1) and slirp4netns(1) take such a PID, too. It ends with the monitor, however that ends.
 */
#ifndef LOL_NETNS_H
#define LOL_NETNS_H

#include "devices/report.h"

#include <netinet/in.h>

struct netns {
	int pid; /* of the process that keeps it; 0: there is none yet */
	int fd;  /* requests to it */
};

/* What the host's end of the interface gets. */
struct netns_shape {
	struct in_addr address; /* 0: none */
	unsigned prefix;        /* bits of its network */
	unsigned mtu;           /* 0: the kernel's default, 1500 */
};

/*
 * The interface ifname in the namespace, made where it is not there yet (a guest that restarts finds it as it was), and up.
 * *fd is its descriptor, as net_tap_on_fd() wants it. 0, or a negative errno with err.
 */
int netns_tap(struct netns *n, const char *ifname, const struct netns_shape *shape, int *fd, char err[DEVICE_ERR]);
void netns_stop(struct netns *n);

#endif
