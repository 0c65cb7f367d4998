/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Queues: 0 inflate, 1 deflate, 2 statistics, and the reports of free pages at 4; Linux numbers only those queues that are
 * in use, and looks for it at 3.
 */
#include "virtio-balloon.h"

#include <errno.h>
#include <linux/virtio_balloon.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "clock.h"

#define QUEUE_SIZE 128u
#define CHAINS_PER_TURN 32u
#define PFNS_MAX 4096u          /* of one request; Linux has 256 in it. What is beyond stays the guest's */
#define REPORT_MAX (4ull << 30) /* bytes of one chain of reports */
#define PFN_SHIFT VIRTIO_BALLOON_PFN_SHIFT

enum { INFLATE, DEFLATE, STATS, REPORT_LINUX, REPORT, QUEUES };

struct balloon {
	struct virtio_dev *dev;
	struct virtio_balloon_config config;
	bool holding; /* the buffer with which the guest will answer the next question for statistics */
	uint16_t stats_head;
	uint64_t stats_time; /* 0: none yet */
	uint64_t stats[VIRTIO_BALLOON_S_NR];
	uint64_t returned;
	struct iovec iov[QUEUE_SIZE];
};

/* Whole pages of [p, p + len), which is guest RAM. */
static uint64_t give_back(uint8_t *p, uint64_t len)
{
	uint8_t *from = (uint8_t *)ALIGN_UP((uintptr_t)p, PAGE_SIZE),
		*to = (uint8_t *)ALIGN_DOWN((uintptr_t)(p + len), PAGE_SIZE);

	/* Where the memory cannot be punched (a test's), it stays: the guest may expect nothing of its contents. */
	if (from >= to || madvise(from, (size_t)(to - from), MADV_REMOVE))
		return 0;
	return (uint64_t)(to - from);
}

/* ---- the balloon ---- */

/*
 * Pages by number; neighbours go in one piece, in whatever direction the guest's allocator has handed them out. No page of
 * the lower stretch of RAM has a neighbour in the upper one.
 */
static void inflate(struct balloon *b, struct virtq_chain *chain)
{
	const struct guest_ram *ram = b->dev->env.ram;
	uint64_t first = 0, count = 0;
	uint32_t pfn;

	for (unsigned i = 0; i < PFNS_MAX && iov_take(&chain->out, &chain->out_count, &pfn, sizeof(pfn)) == sizeof(pfn);
	     i++) {
		__asm__ volatile("" : "+m"(pfn));
		uint64_t page = pfn;
		if (!ram_ptr(ram, page << PFN_SHIFT, PAGE_SIZE))
			continue; /* not RAM: nothing is lost */
		if (count && page == first + count) {
			count++;
		} else if (count && page + 1 == first) {
			first--;
			count++;
		} else {
			if (count)
				give_back(ram_ptr(ram, first << PFN_SHIFT, PAGE_SIZE), count << PFN_SHIFT);
			first = page;
			count = 1;
		}
	}
	if (count)
		give_back(ram_ptr(ram, first << PFN_SHIFT, PAGE_SIZE), count << PFN_SHIFT);
}

static void report(struct balloon *b, struct virtq_chain *chain)
{
	uint64_t left = REPORT_MAX;

	for (unsigned i = 0; i < chain->in_count && left; i++) {
		uint64_t len = MIN((uint64_t)chain->in[i].iov_len, left);
		b->returned += give_back(chain->in[i].iov_base, len);
		left -= len;
	}
}

static void serve(struct balloon *b, unsigned queue)
{
	struct virtq *vq = &b->dev->vq[queue];
	struct virtq_chain chain;
	unsigned budget = CHAINS_PER_TURN;

	while (budget && virtq_pop(vq, &chain, b->iov, QUEUE_SIZE)) {
		budget--;
		if (queue == INFLATE)
			inflate(b, &chain);
		else if (queue == REPORT_LINUX || queue == REPORT)
			report(b, &chain);
		virtq_push(vq, chain.head, 0);
	}
	virtq_signal(vq);
	if (!budget)
		virtio_defer(b->dev, queue);
}

/* ---- statistics ---- */

static void take_stats(struct balloon *b)
{
	struct virtq *vq = &b->dev->vq[STATS];
	struct virtio_balloon_stat s;
	struct virtq_chain chain;

	/* There is one buffer in the game; who sends more gets the older ones back. */
	for (unsigned i = 0; i < QUEUE_SIZE && virtq_pop(vq, &chain, b->iov, QUEUE_SIZE); i++) {
		if (b->holding)
			virtq_push(vq, b->stats_head, 0);
		b->holding = true;
		b->stats_head = chain.head;
		memset(b->stats, 0xff, sizeof(b->stats));
		b->stats_time = clock_ns(CLOCK_MONOTONIC);
		for (unsigned n = 0; n < 64 && iov_take(&chain.out, &chain.out_count, &s, sizeof(s)) == sizeof(s);
		     n++) {
			__asm__ volatile("" : "+m"(s));
			if (s.tag < ARRAY_LEN(b->stats))
				b->stats[s.tag] = s.val;
		}
	}
}

static void ask_for_stats(struct balloon *b)
{
	struct virtq *vq = &b->dev->vq[STATS];

	if (!b->holding)
		return;
	b->holding = false;
	virtq_push(vq, b->stats_head, 0);
	virtq_signal(vq);
}

/* ---- the device ---- */

static void balloon_notify(void *priv, unsigned queue)
{
	struct balloon *b = priv;

	if (queue == STATS)
		take_stats(b);
	else
		serve(b, queue);
}

static void balloon_config_write(void *priv, uint32_t offset, const void *data, unsigned size)
{
	struct balloon *b = priv;

	if (offset == offsetof(struct virtio_balloon_config, actual) && size == sizeof(b->config.actual))
		memcpy(&b->config.actual, data, size);
}

static void balloon_reset(void *priv)
{
	struct balloon *b = priv;

	b->holding = false;
	b->stats_time = 0;
	b->config.actual = 0; /* its pages are the guest's again (5.5.6.1) */
}

static const struct virtio_ops balloon_ops = {
	.name = "balloon",
	.device_id = VIRTIO_ID_BALLOON,
	.config_write = balloon_config_write,
	.notify = balloon_notify,
	.reset = balloon_reset,
	.destroy = free,
};

struct virtio_dev *virtio_balloon_create(const struct virtio_env *env, bool reporting, char err[DEVICE_ERR])
{
	static const uint16_t queue_sizes[QUEUES] = {QUEUE_SIZE, QUEUE_SIZE, QUEUE_SIZE, QUEUE_SIZE, QUEUE_SIZE};
	struct balloon *b = calloc(1, sizeof(*b));
	struct virtio_shape shape = {.features = UINT64_C(1) << VIRTIO_BALLOON_F_STATS_VQ |
						 UINT64_C(1) << VIRTIO_BALLOON_F_DEFLATE_ON_OOM |
						 (uint64_t)reporting << VIRTIO_BALLOON_F_REPORTING,
				     .nqueues = QUEUES,
				     .queue_sizes = queue_sizes,
				     .config = b ? &b->config : NULL,
				     .config_size = sizeof(b->config)};

	if (b)
		b->dev = virtio_create(env, &balloon_ops, &shape, b);
	if (b && b->dev)
		return b->dev;
	free(b);
	device_error(err, "balloon: out of memory; close something");
	return NULL;
}

int virtio_balloon_set_target(struct virtio_dev *dev, uint64_t bytes)
{
	struct balloon *b = dev->priv;
	uint64_t ram = dev->env.ram->size;

	if (bytes > ram || bytes < MIN(BALLOON_GUEST_MIN, ram))
		return -ERANGE;
	if (!dev->live)
		return -ENODEV;
	b->config.num_pages = (uint32_t)MIN((ram - bytes) >> PFN_SHIFT, UINT32_MAX);
	virtio_config_changed(dev);
	return 0;
}

void virtio_balloon_info(struct virtio_dev *dev, struct balloon_info *info)
{
	struct balloon *b = dev->priv;
	uint64_t ram = dev->env.ram->size, given = (uint64_t)b->config.actual << PFN_SHIFT;

	*info = (struct balloon_info){
		.target = ram - ((uint64_t)b->config.num_pages << PFN_SHIFT),
		.used = ram - MIN(given, ram),
		.returned = b->returned,
		.stats = {.age_ns = b->stats_time ? clock_ns(CLOCK_MONOTONIC) - b->stats_time : UINT64_MAX,
			  .free = b->stats[VIRTIO_BALLOON_S_MEMFREE],
			  .available = b->stats[VIRTIO_BALLOON_S_AVAIL],
			  .total = b->stats[VIRTIO_BALLOON_S_MEMTOT],
			  .caches = b->stats[VIRTIO_BALLOON_S_CACHES],
			  .major_faults = b->stats[VIRTIO_BALLOON_S_MAJFLT],
			  .minor_faults = b->stats[VIRTIO_BALLOON_S_MINFLT],
			  .swapped_in = b->stats[VIRTIO_BALLOON_S_SWAP_IN],
			  .swapped_out = b->stats[VIRTIO_BALLOON_S_SWAP_OUT]}};
	ask_for_stats(b);
}
