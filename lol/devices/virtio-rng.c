/* SPDX-License-Identifier: BSD-2-Clause */
#include "virtio-rng.h"

#include <stdlib.h>
#include <sys/random.h>

#define QUEUE_SIZE 64
#define BYTES_MAX \
	4096u /* per request: the device may give less than asked (5.4.6.2), and a turn of the loop stays short */

struct rng {
	struct virtio_dev *dev;
	struct iovec iov[QUEUE_SIZE];
};

static uint32_t fill(struct virtq_chain *chain)
{
	uint8_t bytes[BYTES_MAX];
	size_t want = (size_t)MIN(chain->in_len, (uint64_t)sizeof(bytes));
	/* Without GRND_NONBLOCK it could wait for the host's own pool in early boot; nobody runs VMs there. */
	ssize_t got = getrandom(bytes, want, 0);
	return got > 0 ? (uint32_t)iov_put(&chain->in, &chain->in_count, bytes, (size_t)got) : 0;
}

static void rng_notify(void *priv, unsigned queue)
{
	struct rng *rng = priv;
	struct virtq *vq = &rng->dev->vq[queue];
	struct virtq_chain chain;
	unsigned budget = vq->num;
	while (budget && virtq_pop(vq, &chain, rng->iov, QUEUE_SIZE)) {
		virtq_push(vq, chain.head, fill(&chain));
		budget--;
	}
	virtq_signal(vq);
	if (!budget)
		virtio_defer(rng->dev, queue);
}

static const struct virtio_ops rng_ops = {
	.name = "rng",
	.device_id = VIRTIO_ID_RNG,
	.notify = rng_notify,
	.destroy = free,
};

struct virtio_dev *virtio_rng_create(const struct virtio_env *env, char err[DEVICE_ERR])
{
	static const uint16_t queue_sizes[] = {QUEUE_SIZE};
	struct virtio_shape shape = {.nqueues = 1, .queue_sizes = queue_sizes};
	struct rng *rng = calloc(1, sizeof(*rng));
	if (rng)
		rng->dev = virtio_create(env, &rng_ops, &shape, rng);
	if (rng && rng->dev)
		return rng->dev;
	free(rng);
	device_error(err, "entropy device: out of memory");
	return NULL;
}
