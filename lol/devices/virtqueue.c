/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The device's side of the split virtqueue (virtio 1.2, 2.7). Every field that the guest can write is read exactly once
 * into a local and judged there; every loop is bounded by a number of ours.
 */
#include "virtio.h"

#include <string.h>

#define CHAIN_BYTES_MAX (UINT64_C(1) << 32) /* 2.7.5.2: no chain is longer */

bool virtq_set_ready(struct virtq *vq)
{
	const struct guest_ram *ram = vq->dev->env.ram;
	uint64_t n = vq->num;
	if (!n || n > vq->num_max || n & (n - 1))
		return false;
	/* Sizes and alignments: 2.7, table of the three parts. */
	if (vq->desc_gpa & 15 || vq->avail_gpa & 1 || vq->used_gpa & 3)
		return false;
	vq->desc = ram_ptr(ram, vq->desc_gpa, 16 * n);
	vq->avail = ram_ptr(ram, vq->avail_gpa, 6 + 2 * n);
	vq->used = ram_ptr(ram, vq->used_gpa, 6 + 8 * n);
	if (!vq->desc || !vq->avail || !vq->used)
		return false;
	vq->last_avail = vq->used_idx = vq->signalled = 0;
	vq->inflight = 0;
	vq->ready = true;
	return true;
}

static uint16_t avail_idx(const struct virtq *vq)
{
	return __atomic_load_n(&vq->avail->idx, __ATOMIC_ACQUIRE);
}

bool virtq_pending(struct virtq *vq)
{
	return vq->dev->live && vq->ready && avail_idx(vq) != vq->last_avail;
}

/* The queue is empty: ask for a notification of the next buffer, then look again, for it may have come meanwhile. */
static uint16_t ask_and_look_again(struct virtq *vq)
{
	if (virtio_has(vq->dev, VIRTIO_RING_F_EVENT_IDX)) {
		uint16_t *avail_event = (uint16_t *)&vq->used->ring[vq->num];
		__atomic_store_n(avail_event, vq->last_avail, __ATOMIC_RELAXED);
		atomic_thread_fence(memory_order_seq_cst);
	}
	return avail_idx(vq);
}

static void read_once(struct vring_desc *copy, const struct vring_desc *from)
{
	memcpy(copy, from, sizeof(*copy));
	/* From here on the compiler must believe that the copy changed: it cannot go back to guest memory for a field. */
	__asm__ volatile("" : "+m"(*copy));
}

struct walk {
	struct virtq *vq;
	struct virtq_chain *chain;
	struct iovec *iov;
	unsigned cap, steps;
};

/* One buffer of the chain into the iovec list. */
static bool add_buffer(struct walk *w, const struct vring_desc *d)
{
	struct virtq_chain *c = w->chain;
	bool in = d->flags & VRING_DESC_F_WRITE;
	if (!in && c->in_count) {
		virtio_broken(w->vq->dev, "a readable buffer behind a writable one"); /* 2.7.4.2 */
		return false;
	}
	if (!d->len)
		return true;
	void *p = ram_ptr(w->vq->dev->env.ram, d->addr, d->len);
	if (!p) {
		virtio_broken(w->vq->dev, "buffer of %u bytes at %#llx is not RAM", d->len,
			      (unsigned long long)d->addr);
		return false;
	}
	w->iov[c->out_count + c->in_count] = (struct iovec){p, d->len};
	if (in) {
		c->in_count++;
		c->in_len += d->len;
	} else {
		c->out_count++;
		c->out_len += d->len;
	}
	if (c->in_len + c->out_len > CHAIN_BYTES_MAX) {
		virtio_broken(w->vq->dev, "a chain of more than 4 GiB");
		return false;
	}
	return true;
}

/* Walk the chain that starts at table[at]; an indirect table may end a chain of the ring itself, not of another table. */
static bool walk_table(struct walk *w, const struct vring_desc *table, uint32_t entries, uint32_t at, bool indirect)
{
	struct virtio_dev *dev = w->vq->dev;
	for (;;) {
		struct vring_desc d;
		if (at >= entries || w->steps++ >= w->cap) {
			virtio_broken(dev,
				      at >= entries ? "descriptor %u of %u" : "chain from %u too long or a loop (%u)",
				      at, entries);
			return false;
		}
		read_once(&d, &table[at]);
		if (d.flags & VRING_DESC_F_INDIRECT) {
			const struct vring_desc *t = ram_ptr(dev->env.ram, d.addr, d.len);
			if (indirect || d.flags & VRING_DESC_F_NEXT || !virtio_has(dev, VIRTIO_RING_F_INDIRECT_DESC) ||
			    !d.len || d.len % sizeof(d) || !t) {
				virtio_broken(dev, "bad indirect table of %u bytes at %#llx", d.len,
					      (unsigned long long)d.addr);
				return false;
			}
			return walk_table(w, t, d.len / sizeof(d), 0, true);
		}
		if (!add_buffer(w, &d))
			return false;
		if (!(d.flags & VRING_DESC_F_NEXT))
			return true;
		at = d.next;
	}
}

bool virtq_pop(struct virtq *vq, struct virtq_chain *chain, struct iovec *iov, unsigned cap)
{
	struct virtio_dev *dev = vq->dev;
	if (!dev->live || !vq->ready)
		return false;
	uint16_t idx = avail_idx(vq);
	if (idx == vq->last_avail) {
		idx = ask_and_look_again(vq);
		if (idx == vq->last_avail)
			return false;
	}
	if ((uint16_t)(idx - vq->last_avail) > vq->num || vq->inflight >= vq->num) {
		virtio_broken(dev, "queue %u has more buffers than descriptors", vq->index);
		return false;
	}
	*chain = (struct virtq_chain){0};
	chain->head = __atomic_load_n(&vq->avail->ring[vq->last_avail & (vq->num - 1)], __ATOMIC_RELAXED);
	struct walk w = {.vq = vq, .chain = chain, .iov = iov, .cap = cap};
	if (!walk_table(&w, vq->desc, vq->num, chain->head, false))
		return false;
	chain->out = iov;
	chain->in = iov + chain->out_count;
	vq->last_avail++;
	vq->inflight++;
	return true;
}

void virtq_unpop(struct virtq *vq, unsigned chains)
{
	if (!vq->dev->live || !vq->ready)
		return;
	vq->last_avail = (uint16_t)(vq->last_avail - chains);
	vq->inflight -= chains;
}

void virtq_push_all(struct virtq *vq, const struct vring_used_elem *chains, unsigned count)
{
	if (!vq->dev->live || !vq->ready)
		return;
	for (unsigned i = 0; i < count; i++) {
		struct vring_used_elem *e = &vq->used->ring[vq->used_idx++ & (vq->num - 1)];
		__atomic_store_n(&e->id, chains[i].id, __ATOMIC_RELAXED);
		__atomic_store_n(&e->len, chains[i].len, __ATOMIC_RELAXED);
	}
	vq->inflight -= count;
	__atomic_store_n(&vq->used->idx, vq->used_idx, __ATOMIC_RELEASE);
}

void virtq_push(struct virtq *vq, uint16_t head, uint32_t written)
{
	virtq_push_all(vq, &(struct vring_used_elem){.id = head, .len = written}, 1);
}

static size_t iov_copy(struct iovec **iov, unsigned *count, uint8_t *buf, size_t len, bool to_guest)
{
	size_t done = 0;
	while (done < len && *count) {
		size_t n = MIN(len - done, (*iov)->iov_len);
		if (buf && to_guest)
			memcpy((*iov)->iov_base, buf + done, n);
		else if (buf)
			memcpy(buf + done, (*iov)->iov_base, n);
		(*iov)->iov_base = (uint8_t *)(*iov)->iov_base + n;
		(*iov)->iov_len -= n;
		done += n;
		if (!(*iov)->iov_len) {
			(*iov)++;
			(*count)--;
		}
	}
	return done;
}

size_t iov_take(struct iovec **iov, unsigned *count, void *buf, size_t len)
{
	return iov_copy(iov, count, buf, len, false);
}

size_t iov_put(struct iovec **iov, unsigned *count, const void *buf, size_t len)
{
	return iov_copy(iov, count, (uint8_t *)(uintptr_t)buf, len, true);
}

void iov_skip(struct iovec **iov, unsigned *count, size_t len)
{
	iov_copy(iov, count, NULL, len, false);
}
