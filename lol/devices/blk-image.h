/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The host's side of a disk: a raw file or block device, its lock, and with `snapshot` an overlay that takes all writes
 * and is forgotten at the end. The overlay is a sparse, unlinked temporary file of the same layout; a bitmap says which
 * sectors live in it. Its grain is the sector, so no write ever has to copy its surroundings first.
 *
 * An image of another format is served by somebody else over NBD: then fd is BLK_FD_NBD, and the server does the locking.
 */
#ifndef LOL_DEVICES_BLK_IMAGE_H
#define LOL_DEVICES_BLK_IMAGE_H

#include "../types.h"
#include "blk-nbd.h"
#include "report.h"

#define SECTOR_SHIFT 9
#define SECTOR_SIZE 512u

#define BLK_FD_NBD (-2) /* in the place of a descriptor: the image's NBD server */

/* The overlay of a disk while it is not in use: the guest restarts. */
struct blk_overlay {
	bool there;
	int fd, lock_fd; /* lock_fd: the image's own, so that nobody writes to what lies below; -1 for an NBD server */
	uint64_t *overlaid, sectors;
};

struct blk_image {
	int fd;
	struct blk_nbd *nbd; /* belongs to the image, or NULL */
	bool ro;
	uint64_t sectors;
	uint32_t block_size;      /* of the host's device; 512 for a file */
	int overlay_fd;           /* -1 without snapshot */
	uint64_t *overlaid;       /* one bit a sector: 1 = in the overlay */
	struct blk_overlay *kept; /* where the overlay goes at the end, or NULL */
};

/* 0, or a negative errno with err filled. With snapshot, kept (or NULL) gives an earlier overlay and takes it at the end. */
int blk_image_open(struct blk_image *image, const char *path, bool ro, bool snapshot, struct blk_overlay *kept,
		   char err[DEVICE_ERR]);
/* The same on an NBD server of the image, which the image takes over also on failure. */
int blk_image_attach(struct blk_image *image, struct blk_nbd *nbd, const char *path, bool ro, bool snapshot,
		     struct blk_overlay *kept, char err[DEVICE_ERR]);
/* Give a raw file another size: 0, or a negative errno with err filled. To be followed by blk_image_remeasure(). */
int blk_image_set_size(struct blk_image *image, const char *path, uint64_t bytes, char err[DEVICE_ERR]);
/* Look at the size again. 1: it has changed, 0: not, or a negative errno with err filled. Not with snapshot. */
int blk_image_remeasure(struct blk_image *image, const char *path, char err[DEVICE_ERR]);
void blk_image_close(struct blk_image *image);
void blk_overlay_forget(struct blk_overlay *kept);

/* Where `count` sectors from `sector` on are to be read: returns how many of them, at least 1, are in *fd. */
uint64_t blk_image_locate(const struct blk_image *image, uint64_t sector, uint64_t count, int *fd);
/* Where they are to be written, and that they have been. */
int blk_image_write_fd(const struct blk_image *image);
void blk_image_written(struct blk_image *image, uint64_t sector, uint64_t count);

#endif
