/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * virtio-vsock (virtio 1.2, 5.10): stream sockets between programs of the guest and of the host, with unix sockets as the
 * host's side, in the way Firecracker does it:
 *
 *   guest connects to CID 2, port P    lol-run connects to the unix socket PATH_P, where somebody listens, or the guest's
 *                                      connection is refused
 *   host connects to PATH, writes      lol-run connects to the guest's port P and answers "OK N\n" (N: a number of its own), or
 *   "CONNECT P\n"                      hangs up where nobody listens there; what follows is the connection
 */
#ifndef LOL_DEVICES_VIRTIO_VSOCK_H
#define LOL_DEVICES_VIRTIO_VSOCK_H

#include "virtio.h"

#define VSOCK_CID_FIRST 3u /* 0 to 2 have meanings of their own */
#define VSOCK_CID_MAX (UINT32_MAX - 1)
#define VSOCK_PATH_MAX 96u /* bytes: "_" and a port are put behind it */

/* NULL with one line in err. */
struct virtio_dev *virtio_vsock_create(const struct virtio_env *env, const char *path, uint32_t cid,
				       char err[DEVICE_ERR]);

#endif
