/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The host's side of a disk: a raw file or block device, its lock, and with `snapshot` an overlay that takes all writes
 * and is forgotten at the end. The overlay is a sparse, unlinked temporary file of the same layout; a bitmap says which
 * sectors live in it. Its grain is the sector, so no write ever has to copy its surroundings first.
 */
#ifndef LOL_DEVICES_BLK_IMAGE_H
#define LOL_DEVICES_BLK_IMAGE_H

#include "../types.h"
#include "report.h"

#define SECTOR_SHIFT 9
#define SECTOR_SIZE 512u

struct blk_image {
	int fd;
	bool ro;
	uint64_t sectors;
	uint32_t block_size; /* of the host's device; 512 for a file */
	int overlay_fd;      /* -1 without snapshot */
	uint64_t *overlaid;  /* one bit a sector: 1 = in the overlay */
};

/* 0, or a negative errno with err filled. */
int blk_image_open(struct blk_image *image, const char *path, bool ro, bool snapshot, char err[DEVICE_ERR]);
void blk_image_close(struct blk_image *image);

/* Where `count` sectors from `sector` on are to be read: returns how many of them, at least 1, are in *fd. */
uint64_t blk_image_locate(const struct blk_image *image, uint64_t sector, uint64_t count, int *fd);
/* Where they are to be written, and that they have been. */
int blk_image_write_fd(const struct blk_image *image);
void blk_image_written(struct blk_image *image, uint64_t sector, uint64_t count);

#endif
