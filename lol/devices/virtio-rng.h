/* SPDX-License-Identifier: BSD-2-Clause */
/* virtio-rng, the entropy device (virtio 1.2, 5.4): random bytes from the host's getrandom(2). */
#ifndef LOL_DEVICES_VIRTIO_RNG_H
#define LOL_DEVICES_VIRTIO_RNG_H

#include "virtio.h"

struct virtio_dev *virtio_rng_create(const struct virtio_env *env, char err[DEVICE_ERR]);

#endif
