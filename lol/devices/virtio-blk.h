/* SPDX-License-Identifier: BSD-2-Clause */
/* virtio-blk (virtio 1.2, 5.2) on a raw file or block device of the host, or on a disk behind an NBD server. */
#ifndef LOL_DEVICES_VIRTIO_BLK_H
#define LOL_DEVICES_VIRTIO_BLK_H

#include "aio.h"
#include "virtio.h"

struct blk_config {
	const char *path;
	const char *serial; /* up to 20 bytes, or NULL */
	bool ro;
	bool snapshot; /* writes go to a temporary file that is lost at the end */
	struct blk_overlay
		*kept; /* with snapshot: where that file is from the end of this disk to its next start, or NULL */
	struct blk_nbd *nbd;    /* or NULL: path is to be opened. Taken over also on failure */
	enum aio_engine engine; /* AIO_AUTO but for tests */
};

/* NULL with one line in err. The strings need not outlive the call. */
struct virtio_dev *virtio_blk_create(const struct virtio_env *env, const struct blk_config *config,
				     char err[DEVICE_ERR]);

/*
 * The file under the disk has another size: the guest is told. 0, or a negative errno with err filled. The guest may still
 * use what is gone: it gets I/O errors.
 */
int virtio_blk_resize(struct virtio_dev *dev, char err[DEVICE_ERR]);
/* The same after giving a raw file that size. */
int virtio_blk_set_size(struct virtio_dev *dev, uint64_t bytes, char err[DEVICE_ERR]);
uint64_t virtio_blk_bytes(const struct virtio_dev *dev);

#endif
