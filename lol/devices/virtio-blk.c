/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * virtio-blk (virtio 1.2, 5.2). Every request is a small state machine: it has at most one I/O operation under way, takes
 * its result, and starts the next until its range is done. Short transfers, the pieces of a snapshot and the fallbacks of
 * WRITE_ZEROES are all just further steps. Many requests are under way at the same time.
 *
 * Order: FLUSH makes durable what was completed before it was submitted (5.2.6.2), so one fdatasync suffices, without
 * waiting for writes that are still under way. When the driver has not accepted FLUSH, each write is made durable before it
 * completes (write-through).
 */
#include "virtio-blk.h"
#include "blk-image.h"

#include <errno.h>
#include <linux/falloc.h>
#include <linux/virtio_blk.h>
#include <stdlib.h>
#include <string.h>

#define QUEUE_SIZE 256
#define IOV_CAP (QUEUE_SIZE + 2)
#define MAX_SEGMENTS 32 /* of a DISCARD */
#define MAX_DISCARD_SECTORS (1u << 22)
#define ZERO_CHUNK 65536u
#define ZERO_VECTORS 16u

struct blk {
	struct virtio_dev *dev;
	struct aio *aio;
	struct blk_image image;
	struct virtio_blk_config config;
	char *path;
	char serial[VIRTIO_BLK_ID_BYTES];
	struct blk_request *idle; /* recycled requests */
	bool resetting;           /* requests end where they are, unanswered */
	bool pushed;              /* the driver has not been told of all that is done */
	int reported;             /* the last host error that the user was told */
};

enum step { STEP_RANGES, STEP_SYNC, STEP_END };

struct blk_request {
	struct aio_op op;
	struct blk *blk;
	struct blk_request *next;
	uint16_t head;
	uint32_t type;
	uint32_t in_len; /* bytes of the device-writable part, status byte included */
	uint8_t *status; /* in guest RAM */
	enum step step;
	bool allocate;     /* DISCARD and WRITE_ZEROES, as long as fallocate works */
	uint64_t pos, end; /* bytes still to do on the disk */
	struct virtio_blk_discard_write_zeroes ranges[MAX_SEGMENTS];
	unsigned nranges, range;
	struct iovec *data; /* rest of the data */
	unsigned ndata;
	struct iovec *cut; /* the vector that was shortened for the operation under way, and its length before */
	size_t cut_len;
	struct iovec iov[IOV_CAP];
};

static const uint8_t zeroes[ZERO_CHUNK];

/* ---- ends ---- */

static void request_free(struct blk_request *r)
{
	r->next = r->blk->idle;
	r->blk->idle = r;
}

static void complete(struct blk_request *r, uint8_t status)
{
	struct blk *blk = r->blk;
	if (!blk->resetting) {
		/* The length promises that so many bytes from the start on were written (2.7.8.2): after an error only the last. */
		bool all = status == VIRTIO_BLK_S_OK || r->in_len == 1;
		*r->status = status;
		virtq_push(&blk->dev->vq[0], r->head, all ? r->in_len : 0);
		blk->pushed = true;
	}
	request_free(r);
}

static void fail(struct blk_request *r, int error)
{
	static const char *const verbs[] = {
		[AIO_READ] = "read", [AIO_WRITE] = "write", [AIO_SYNC] = "sync", [AIO_ALLOCATE] = "discard"};
	struct blk *blk = r->blk;
	if (error != blk->reported && !blk->resetting)
		device_report(REPORT_WARNING, "disk %s: %s failed: %s; the guest sees an I/O error", blk->path,
			      verbs[r->op.code], error == ENODATA ? "the file has become shorter" : strerror(error));
	blk->reported = error;
	complete(r, VIRTIO_BLK_S_IOERR);
}

/* ---- steps ---- */

static void next_step(struct blk_request *r);

/* Make the list from r->data on n bytes long. */
static unsigned cut_data(struct blk_request *r, uint64_t n)
{
	unsigned i = 0;
	while (n > r->data[i].iov_len)
		n -= r->data[i++].iov_len;
	r->cut = &r->data[i];
	r->cut_len = r->cut->iov_len;
	r->cut->iov_len = n;
	return i + 1;
}

static void uncut_data(struct blk_request *r)
{
	if (r->cut)
		r->cut->iov_len = r->cut_len;
	r->cut = NULL;
}

static bool transfers_data(const struct blk_request *r)
{
	return r->type == VIRTIO_BLK_T_IN || r->type == VIRTIO_BLK_T_OUT;
}

static void start_transfer(struct blk_request *r)
{
	struct blk *blk = r->blk;
	uint64_t len = r->end - r->pos;
	r->op.offset = r->pos;
	if (r->type == VIRTIO_BLK_T_IN) {
		/* After a short read pos may lie inside a sector: the rest of that one is in the same place. */
		uint64_t first = r->pos >> SECTOR_SHIFT, last = (r->end - 1) >> SECTOR_SHIFT;
		uint64_t n = blk_image_locate(&blk->image, first, last - first + 1, &r->op.fd);
		len = MIN(len, ((first + n) << SECTOR_SHIFT) - r->pos);
		r->op.code = AIO_READ;
	} else {
		r->op.fd = blk_image_write_fd(&blk->image);
		r->op.code = AIO_WRITE;
	}
	r->op.iov = r->data;
	r->op.iovcnt = cut_data(r, len);
}

/* Zeroes by writing them, where the host's file system has no better way. */
static void start_zero_write(struct blk_request *r)
{
	uint64_t left = MIN(r->end - r->pos, (uint64_t)ZERO_CHUNK * ZERO_VECTORS);
	unsigned n = 0;
	for (; left; n++) {
		r->iov[n] = (struct iovec){(void *)(uintptr_t)zeroes, MIN(left, (uint64_t)ZERO_CHUNK)};
		left -= r->iov[n].iov_len;
	}
	r->op.code = AIO_WRITE;
	r->op.fd = blk_image_write_fd(&r->blk->image);
	r->op.offset = r->pos;
	r->op.iov = r->iov;
	r->op.iovcnt = n;
}

static void start_allocate(struct blk_request *r)
{
	bool unmap = r->type == VIRTIO_BLK_T_DISCARD || r->blk->image.overlaid ||
		     r->ranges[r->range].flags & VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP;
	r->op.code = AIO_ALLOCATE;
	r->op.fd = blk_image_write_fd(&r->blk->image);
	r->op.mode = FALLOC_FL_KEEP_SIZE | (unmap ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE);
	r->op.offset = r->pos;
	r->op.len = r->end - r->pos;
}

static void next_range(struct blk_request *r)
{
	r->pos = r->ranges[r->range].sector << SECTOR_SHIFT;
	r->end = r->pos + ((uint64_t)r->ranges[r->range].num_sectors << SECTOR_SHIFT);
}

static void next_step(struct blk_request *r)
{
	struct blk *blk = r->blk;
	if (blk->resetting) {
		complete(r, VIRTIO_BLK_S_IOERR);
		return;
	}
	while (r->step == STEP_RANGES && r->pos == r->end && r->range + 1 < r->nranges) {
		r->range++;
		next_range(r);
	}
	if (r->step == STEP_RANGES && r->pos == r->end)
		r->step =
			r->type != VIRTIO_BLK_T_IN && !blk->image.overlaid && !virtio_has(blk->dev, VIRTIO_BLK_F_FLUSH)
				? STEP_SYNC
				: STEP_END;
	if (r->step == STEP_END) {
		complete(r, VIRTIO_BLK_S_OK);
		return;
	}
	if (r->step == STEP_SYNC) {
		r->op.code = AIO_SYNC;
		r->op.fd = blk->image.fd;
	} else if (transfers_data(r)) {
		start_transfer(r);
	} else if (r->allocate) {
		start_allocate(r);
	} else {
		start_zero_write(r);
	}
	if (r->op.fd == BLK_FD_NBD)
		blk_nbd_submit(blk->image.nbd, &r->op);
	else
		aio_submit(blk->aio, &r->op);
}

/* fallocate has refused: a discard is only a hint (5.2.6.2), zeroes must be written. */
static bool can_do_without(struct blk_request *r, int64_t result)
{
	if (r->op.code != AIO_ALLOCATE ||
	    (result != -EOPNOTSUPP && result != -ENOSYS && result != -EINVAL && result != -EPERM))
		return false;
	if (r->type == VIRTIO_BLK_T_DISCARD)
		r->pos = r->end;
	r->allocate = false;
	return true;
}

static void operation_done(struct aio_op *op, int64_t result)
{
	struct blk_request *r = (struct blk_request *)op; /* its first member */
	uncut_data(r);
	if (result < 0 && (result == -EINTR || result == -EAGAIN || can_do_without(r, result))) {
		next_step(r);
		return;
	}
	if (result == 0 && (op->code == AIO_READ || op->code == AIO_WRITE))
		result = -ENODATA;
	if (result < 0) {
		fail(r, (int)-result);
		return;
	}
	if (op->code == AIO_SYNC) {
		r->step = STEP_END;
	} else {
		uint64_t n = op->code == AIO_ALLOCATE ? op->len : (uint64_t)result;
		uint64_t first = r->pos >> SECTOR_SHIFT;
		r->pos += n;
		if (transfers_data(r))
			iov_skip(&r->data, &r->ndata, n);
		/* Only whole sectors count as written; a short write's last one is counted with the rest of it. */
		if (op->code != AIO_READ)
			blk_image_written(&r->blk->image, first, (r->pos >> SECTOR_SHIFT) - first);
	}
	next_step(r);
}

/* ---- requests ---- */

static bool range_valid(const struct blk *blk, uint64_t sector, uint64_t count)
{
	return count <= blk->image.sectors && sector <= blk->image.sectors - count;
}

/* The payload of DISCARD and WRITE_ZEROES: a list of ranges (5.2.6). Returns the status, OK to go on. */
static uint8_t parse_ranges(struct blk_request *r, uint64_t bytes)
{
	size_t one = sizeof(r->ranges[0]);
	unsigned max = r->type == VIRTIO_BLK_T_DISCARD ? MAX_SEGMENTS : 1;
	if (!bytes || bytes % one || bytes / one > max)
		return VIRTIO_BLK_S_IOERR;
	iov_take(&r->data, &r->ndata, r->ranges, bytes);
	r->nranges = (unsigned)(bytes / one);
	for (unsigned i = 0; i < r->nranges; i++) {
		uint32_t allowed = r->type == VIRTIO_BLK_T_DISCARD ? 0 : VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP;
		if (r->ranges[i].flags & ~allowed)
			return VIRTIO_BLK_S_UNSUPP;
		if (r->ranges[i].num_sectors > MAX_DISCARD_SECTORS ||
		    !range_valid(r->blk, r->ranges[i].sector, r->ranges[i].num_sectors))
			return VIRTIO_BLK_S_IOERR;
	}
	r->allocate = true;
	next_range(r);
	return VIRTIO_BLK_S_OK;
}

static uint8_t parse_transfer(struct blk_request *r, uint64_t sector, uint64_t bytes)
{
	if (bytes % SECTOR_SIZE || !range_valid(r->blk, sector, bytes >> SECTOR_SHIFT))
		return VIRTIO_BLK_S_IOERR;
	r->pos = sector << SECTOR_SHIFT;
	r->end = r->pos + bytes;
	return VIRTIO_BLK_S_OK;
}

/* Fill the request from its header. Returns the status: OK for the steps to run. */
static uint8_t parse(struct blk_request *r, const struct virtio_blk_outhdr *h, struct virtq_chain *c)
{
	struct blk *blk = r->blk;
	uint64_t out = c->out_len - sizeof(*h), in = c->in_len - 1;
	r->step = STEP_RANGES;
	r->pos = r->end = 0;
	r->nranges = r->range = 0;
	r->data = r->type == VIRTIO_BLK_T_IN || r->type == VIRTIO_BLK_T_GET_ID ? c->in : c->out;
	r->ndata = r->data == c->in ? c->in_count : c->out_count;
	switch (r->type) {
	case VIRTIO_BLK_T_IN:
		return parse_transfer(r, h->sector, in);
	case VIRTIO_BLK_T_OUT:
		return blk->image.ro ? VIRTIO_BLK_S_IOERR : parse_transfer(r, h->sector, out);
	case VIRTIO_BLK_T_DISCARD:
	case VIRTIO_BLK_T_WRITE_ZEROES:
		return blk->image.ro ? VIRTIO_BLK_S_IOERR : parse_ranges(r, out);
	case VIRTIO_BLK_T_FLUSH:
		/* Nothing of a snapshot is to outlive us. */
		r->step = blk->image.ro || blk->image.overlaid ? STEP_END : STEP_SYNC;
		return VIRTIO_BLK_S_OK;
	case VIRTIO_BLK_T_GET_ID:
		iov_put(&r->data, &r->ndata, blk->serial, MIN(in, sizeof(blk->serial)));
		r->step = STEP_END;
		return VIRTIO_BLK_S_OK;
	default:
		return VIRTIO_BLK_S_UNSUPP;
	}
}

/* The last byte of the chain is the status; the rest of the device-writable part is data (5.2.6, no framing assumed). */
static void take_status_byte(struct blk_request *r, struct virtq_chain *c)
{
	struct iovec *last = &c->in[c->in_count - 1];
	last->iov_len--;
	r->status = (uint8_t *)last->iov_base + last->iov_len;
	if (!last->iov_len)
		c->in_count--;
}

static void start_request(struct blk_request *r, struct virtq_chain *c)
{
	struct virtio_blk_outhdr h;
	r->head = c->head;
	if (c->out_len < sizeof(h) || !c->in_len) {
		virtio_broken(r->blk->dev, "request without header or status byte");
		request_free(r);
		return;
	}
	r->in_len = (uint32_t)MIN(c->in_len, UINT32_MAX);
	take_status_byte(r, c);
	iov_take(&c->out, &c->out_count, &h, sizeof(h));
	__asm__ volatile("" : "+m"(h)); /* read once */
	r->type = h.type;
	uint8_t status = parse(r, &h, c);
	if (status == VIRTIO_BLK_S_OK)
		next_step(r);
	else
		complete(r, status);
}

static struct blk_request *request_alloc(struct blk *blk)
{
	struct blk_request *r = blk->idle;
	if (r) {
		blk->idle = r->next;
	} else {
		r = malloc(sizeof(*r));
		if (!r)
			return NULL;
	}
	r->blk = blk;
	r->cut = NULL;
	r->allocate = false;
	r->op.done = operation_done;
	return r;
}

/* The end of a batch: start what is queued, interrupt the driver once. */
static void settle(void *arg)
{
	struct blk *blk = arg;
	aio_kick(blk->aio);
	if (blk->pushed)
		virtq_signal(&blk->dev->vq[0]);
	blk->pushed = false;
}

static void blk_notify(void *priv, unsigned queue)
{
	struct blk *blk = priv;
	struct virtq *vq = &blk->dev->vq[queue];
	struct virtq_chain chain;
	unsigned budget = vq->num;
	while (budget) {
		struct blk_request *r = request_alloc(blk);
		if (!r)
			break; /* out of memory: again later */
		if (!virtq_pop(vq, &chain, r->iov, IOV_CAP)) {
			request_free(r);
			settle(blk);
			return;
		}
		start_request(r, &chain);
		budget--;
	}
	virtio_defer(blk->dev, queue);
	settle(blk);
}

/* A request may go from one of the two to the other. */
static void drain(struct blk *blk)
{
	for (int i = 0; i < 2; i++) {
		aio_drain(blk->aio);
		if (blk->image.nbd)
			blk_nbd_drain(blk->image.nbd);
	}
}

static void blk_reset(void *priv)
{
	struct blk *blk = priv;
	blk->resetting = true;
	drain(blk);
	blk->resetting = false;
	blk->pushed = false;
}

static void blk_destroy(void *priv)
{
	struct blk *blk = priv;
	if (!blk)
		return;
	blk->resetting = true;
	if (blk->aio)
		drain(blk);
	aio_destroy(blk->aio);
	blk_image_close(&blk->image);
	for (struct blk_request *r = blk->idle, *next; r; r = next) {
		next = r->next;
		free(r);
	}
	free(blk->path);
	free(blk);
}

static const struct virtio_ops blk_ops = {
	.name = "blk",
	.device_id = VIRTIO_ID_BLOCK,
	.notify = blk_notify,
	.reset = blk_reset,
	.destroy = blk_destroy,
};

static void fill_config(struct blk *blk)
{
	blk->config = (struct virtio_blk_config){
		.capacity = blk->image.sectors,
		.seg_max = QUEUE_SIZE - 2,
		.blk_size = blk->image.block_size,
		.physical_block_exp =
			(uint8_t)(blk->image.block_size < PAGE_SIZE ? __builtin_ctzl(PAGE_SIZE / blk->image.block_size)
								    : 0),
		.max_discard_sectors = MAX_DISCARD_SECTORS,
		.max_discard_seg = MAX_SEGMENTS,
		.discard_sector_alignment = PAGE_SIZE / SECTOR_SIZE,
		.max_write_zeroes_sectors = MAX_DISCARD_SECTORS,
		.max_write_zeroes_seg = 1,
		.write_zeroes_may_unmap = 1,
	};
}

static uint64_t blk_features(const struct blk *blk)
{
	uint64_t f = UINT64_C(1) << VIRTIO_BLK_F_SEG_MAX | UINT64_C(1) << VIRTIO_BLK_F_BLK_SIZE |
		     UINT64_C(1) << VIRTIO_BLK_F_TOPOLOGY | UINT64_C(1) << VIRTIO_BLK_F_FLUSH;
	if (blk->image.ro)
		return f | UINT64_C(1) << VIRTIO_BLK_F_RO;
	return f | UINT64_C(1) << VIRTIO_BLK_F_DISCARD | UINT64_C(1) << VIRTIO_BLK_F_WRITE_ZEROES;
}

struct virtio_dev *virtio_blk_create(const struct virtio_env *env, const struct blk_config *config,
				     char err[DEVICE_ERR])
{
	static const uint16_t queue_sizes[] = {QUEUE_SIZE};
	struct blk *blk = calloc(1, sizeof(*blk));
	if (!blk) {
		blk_nbd_close(config->nbd);
		device_error(err, "disk %s: out of memory", config->path);
		return NULL;
	}
	if (config->nbd ? blk_image_attach(&blk->image, config->nbd, config->path, config->ro, config->snapshot,
					   config->kept, err)
			: blk_image_open(&blk->image, config->path, config->ro, config->snapshot, config->kept, err)) {
		free(blk);
		return NULL;
	}
	if (config->nbd)
		blk_nbd_on_batch(config->nbd, settle, blk);
	blk->path = strdup(config->path);
	if (config->serial)
		memcpy(blk->serial, config->serial, strnlen(config->serial, sizeof(blk->serial)));
	fill_config(blk);
	struct virtio_shape shape = {.features = blk_features(blk),
				     .nqueues = 1,
				     .queue_sizes = queue_sizes,
				     .config = &blk->config,
				     .config_size = sizeof(blk->config)};
	blk->aio = aio_create(env->loop, config->engine, config->path, settle, blk);
	blk->dev = blk->aio && blk->path ? virtio_create(env, &blk_ops, &shape, blk) : NULL;
	if (!blk->dev) {
		device_error(err, "disk %s: cannot start its I/O: %s", config->path, strerror(errno));
		blk_destroy(blk);
		return NULL;
	}
	return blk->dev;
}

int virtio_blk_resize(struct virtio_dev *dev, char err[DEVICE_ERR])
{
	struct blk *blk = dev->priv;
	int r = blk_image_remeasure(&blk->image, blk->path, err);

	if (r > 0) {
		blk->config.capacity = blk->image.sectors;
		virtio_config_changed(dev);
	}
	return MIN(r, 0);
}

int virtio_blk_set_size(struct virtio_dev *dev, uint64_t bytes, char err[DEVICE_ERR])
{
	struct blk *blk = dev->priv;
	int r = blk_image_set_size(&blk->image, blk->path, bytes, err);

	return r ? r : virtio_blk_resize(dev, err);
}

uint64_t virtio_blk_bytes(const struct virtio_dev *dev)
{
	const struct blk *blk = dev->priv;

	return blk->image.sectors << SECTOR_SHIFT;
}
