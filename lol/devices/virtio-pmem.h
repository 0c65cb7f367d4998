/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * virtio-pmem (virtio 1.2, 5.19): a file of the host in guest-physical memory. The memory itself is the machine's affair
 * (lol/ram.h); the device says where it is, and makes it durable when asked to.
 */
#ifndef LOL_DEVICES_VIRTIO_PMEM_H
#define LOL_DEVICES_VIRTIO_PMEM_H

#include "aio.h"
#include "virtio.h"

struct pmem_config {
	const char *path; /* for reports */
	int fd;           /* of the file; stays the caller's */
	gpa_t gpa;
	uint64_t size; /* bytes */
	bool ro;       /* nothing to make durable */
	enum aio_engine engine;
};

/* NULL with one line in err. */
struct virtio_dev *virtio_pmem_create(const struct virtio_env *env, const struct pmem_config *config,
				      char err[DEVICE_ERR]);

#endif
