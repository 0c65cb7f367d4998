/* SPDX-License-Identifier: BSD-2-Clause */
#include "virtio-pmem.h"

#include <errno.h>
#include <linux/virtio_pmem.h>
#include <stdlib.h>
#include <string.h>

#define QUEUE_SIZE 64u
#define FAILED UINT32_MAX /* 5.19.6.1: any value but 0 */

struct flush {
	struct aio_op op;
	struct pmem *pmem;
	struct flush *next;
	uint16_t head;
	struct virtio_pmem_resp *answer; /* in guest RAM, 4 bytes; it may have any alignment */
};

struct pmem {
	struct virtio_dev *dev;
	struct aio *aio;
	struct virtio_pmem_config config;
	char *path;
	int fd;
	bool ro, resetting, pushed, reported;
	struct flush *idle;
	struct flush flushes[QUEUE_SIZE];
};

static void answer(struct flush *f, uint32_t status)
{
	struct pmem *pmem = f->pmem;

	if (!pmem->resetting) {
		memcpy(f->answer, &status, sizeof(status));
		virtq_push(&pmem->dev->vq[0], f->head, sizeof(status));
		pmem->pushed = true;
	}
	f->next = pmem->idle;
	pmem->idle = f;
}

static void flushed(struct aio_op *op, int64_t result)
{
	struct flush *f = (struct flush *)op; /* its first member */

	if (result < 0 && !f->pmem->reported) {
		f->pmem->reported = true;
		device_report(REPORT_WARNING, "disk %s: sync failed: %s; the guest sees an I/O error", f->pmem->path,
			      strerror((int)-result));
	}
	answer(f, result < 0 ? FAILED : 0);
}

static void settle(void *arg)
{
	struct pmem *pmem = arg;

	aio_kick(pmem->aio);
	if (pmem->pushed)
		virtq_signal(&pmem->dev->vq[0]);
	pmem->pushed = false;
}

static void start(struct pmem *pmem, struct virtq_chain *c)
{
	struct flush *f = pmem->idle; /* there are as many as a queue has chains */
	uint32_t type;

	if (!f || c->out_len < sizeof(type) || !c->in_count || c->in[0].iov_len < sizeof(uint32_t)) {
		virtio_broken(pmem->dev, "a request of %llu bytes", (unsigned long long)c->out_len);
		return;
	}
	iov_take(&c->out, &c->out_count, &type, sizeof(type));
	pmem->idle = f->next;
	f->pmem = pmem;
	f->head = c->head;
	f->answer = c->in[0].iov_base;
	if (type != VIRTIO_PMEM_REQ_TYPE_FLUSH || pmem->ro) {
		answer(f, type == VIRTIO_PMEM_REQ_TYPE_FLUSH ? 0 : FAILED);
		return;
	}
	f->op = (struct aio_op){.code = AIO_SYNC, .fd = pmem->fd, .done = flushed};
	aio_submit(pmem->aio, &f->op);
}

static void pmem_notify(void *priv, unsigned queue)
{
	struct pmem *pmem = priv;
	struct virtq *vq = &pmem->dev->vq[queue];
	struct virtq_chain chain;
	struct iovec iov[QUEUE_SIZE];
	unsigned budget = vq->num;

	while (budget && virtq_pop(vq, &chain, iov, QUEUE_SIZE)) {
		start(pmem, &chain);
		budget--;
	}
	if (!budget)
		virtio_defer(pmem->dev, queue);
	settle(pmem);
}

static void pmem_reset(void *priv)
{
	struct pmem *pmem = priv;

	pmem->resetting = true;
	aio_drain(pmem->aio);
	pmem->resetting = false;
	pmem->pushed = false;
}

static void pmem_destroy(void *priv)
{
	struct pmem *pmem = priv;

	pmem->resetting = true;
	aio_destroy(pmem->aio);
	free(pmem->path);
	free(pmem);
}

static const struct virtio_ops pmem_ops = {
	.name = "pmem",
	.device_id = VIRTIO_ID_PMEM,
	.notify = pmem_notify,
	.reset = pmem_reset,
	.destroy = pmem_destroy,
};

struct virtio_dev *virtio_pmem_create(const struct virtio_env *env, const struct pmem_config *config,
				      char err[DEVICE_ERR])
{
	static const uint16_t queue_sizes[] = {QUEUE_SIZE};
	struct pmem *pmem = calloc(1, sizeof(*pmem));

	if (pmem) {
		struct virtio_shape shape = {.nqueues = 1,
					     .queue_sizes = queue_sizes,
					     .config = &pmem->config,
					     .config_size = sizeof(pmem->config)};
		pmem->config = (struct virtio_pmem_config){.start = config->gpa, .size = config->size};
		pmem->fd = config->fd;
		pmem->ro = config->ro;
		for (unsigned i = 0; i < QUEUE_SIZE; i++) {
			pmem->flushes[i].next = pmem->idle;
			pmem->idle = &pmem->flushes[i];
		}
		pmem->path = strdup(config->path);
		pmem->aio = aio_create(env->loop, config->engine, config->path, settle, pmem);
		pmem->dev = pmem->aio && pmem->path ? virtio_create(env, &pmem_ops, &shape, pmem) : NULL;
		if (pmem->dev)
			return pmem->dev;
		pmem_destroy(pmem);
	}
	device_error(err, "disk %s: cannot start its I/O: %s", config->path, strerror(errno));
	return NULL;
}
