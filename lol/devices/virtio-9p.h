/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * virtio-9p: a host directory for the guest's 9P client. The messages go to a server of the host over a stream socket; what
 * the guest says is checked on the way (p9.h).
 */
#ifndef LOL_DEVICES_VIRTIO_9P_H
#define LOL_DEVICES_VIRTIO_9P_H

#include "p9.h"
#include "virtio.h"

struct p9_config {
	const char *dir; /* for reports */
	const char *tag; /* what the guest mounts */
	int fd;          /* the server's end of a stream socket; belongs to the device from success on */
	struct p9_policy policy;
};

/* NULL with one line in err. The strings need not outlive the call. */
struct virtio_dev *virtio_9p_create(const struct virtio_env *env, const struct p9_config *config, char err[DEVICE_ERR]);

#endif
