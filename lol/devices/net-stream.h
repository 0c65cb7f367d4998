/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A network card's back-end: a unix stream socket to another VM or to passt(1). On it a frame is its length, four bytes,
 * the most significant first, and then its bytes; QEMU's "stream" network and passt speak the same.
 *
 * Two VMs are given one path. Who comes first listens there and takes one peer; who finds a listener connects to it. When the
 * peer goes, the guest loses its link, and the same search starts anew: so either may end and come back. A socket file that
 * nobody listens on is taken over. It can happen that two take it over at the same time; the one whose file is not there
 * any more notices within a second, and connects.
 */
#ifndef LOL_DEVICES_NET_STREAM_H
#define LOL_DEVICES_NET_STREAM_H

#include "net-backend.h"

struct net_backend *net_stream_open(struct loop *loop, const char *path, char err[DEVICE_ERR]); /* NULL with err */

#endif
