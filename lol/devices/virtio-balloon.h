/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * virtio-balloon (virtio 1.2, 5.5): the host asks the guest to do with less memory; the guest reports what it does not use
 * anyway. Either way the pages go back to the host at once: they are punched out of the memfd of guest RAM, for all who map
 * it, and read as zeroes when the guest touches them again.
 *
 * All sizes are in bytes. For the loop thread.
 */
#ifndef LOL_DEVICES_VIRTIO_BALLOON_H
#define LOL_DEVICES_VIRTIO_BALLOON_H

#include "virtio.h"

#define BALLOON_GUEST_MIN (16ull << 20) /* nobody is asked to live on less */

/* reporting: the guest tells of blocks of free pages by itself, some seconds after it has freed them. */
struct virtio_dev *virtio_balloon_create(const struct virtio_env *env, bool reporting, char err[DEVICE_ERR]);

/*
 * Ask the guest to use so much of its memory: BALLOON_GUEST_MIN up to all of it. It takes its time, and in need it takes
 * memory back. 0; -ERANGE; -ENODEV: the guest has no driver for the balloon (yet).
 */
int virtio_balloon_set_target(struct virtio_dev *dev, uint64_t bytes);

/* What the guest says of itself; a field that it does not know is UINT64_MAX. */
struct balloon_stats {
	uint64_t age_ns; /* of the rest; UINT64_MAX: nothing was ever heard */
	uint64_t free, available, total, caches;
	uint64_t major_faults, minor_faults, swapped_in, swapped_out;
};

struct balloon_info {
	uint64_t target;   /* as it was set; at first all of the guest's RAM */
	uint64_t used;     /* what the guest has left for itself, by its own word */
	uint64_t returned; /* given back by reports, in total; the same page may count many times */
	struct balloon_stats stats;
};

/* What is known now; asks the guest for new statistics, which a later call (some milliseconds) has. */
void virtio_balloon_info(struct virtio_dev *dev, struct balloon_info *info);

#endif
