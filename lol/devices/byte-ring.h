/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A lock-free byte ring between two processes: one producer, one consumer, no system call. It carries the bytes of the
 * serial port between K (in signal context: nothing here calls anything) and the monitor.
 *
 * The memory is shared and the other side may be hostile. Each side therefore keeps its own position privately and only
 * publishes it; the other's position is read once and used for nothing but a count, which is bounded by the size. The
 * worst that a liar can do is to lose or invent bytes of his own stream.
 *
 * Each side wakes the other by its own means (eventfd, kick); byte_ring_was_empty() tells the producer when to.
 */
#ifndef LOL_DEVICES_BYTE_RING_H
#define LOL_DEVICES_BYTE_RING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* In shared memory, zeroed at first. Positions count bytes for ever and wrap at 2^32. */
struct byte_ring {
	_Alignas(64) _Atomic uint32_t head; /* written by the producer: bytes put in so far */
	_Alignas(64) _Atomic uint32_t tail; /* written by the consumer: bytes taken out so far */
};

/* One side's own view, private to its process. */
struct byte_ring_end {
	struct byte_ring *ring;
	uint8_t *bytes; /* shared too: size bytes */
	uint32_t size;  /* a power of two up to 2^31 */
	uint32_t pos;   /* the producer's head or the consumer's tail */
};

static inline void byte_ring_attach(struct byte_ring_end *r, struct byte_ring *ring, uint8_t *bytes, uint32_t size)
{
	r->ring = ring;
	r->bytes = bytes;
	r->size = size;
	r->pos = 0;
}

/* Producer: bytes that fit. */
static inline uint32_t byte_ring_room(const struct byte_ring_end *r)
{
	uint32_t used = r->pos - atomic_load_explicit(&r->ring->tail, memory_order_acquire);
	return used > r->size ? 0 : r->size - used;
}

/* Consumer: bytes that can be taken. */
static inline uint32_t byte_ring_used(const struct byte_ring_end *r)
{
	uint32_t used = atomic_load_explicit(&r->ring->head, memory_order_acquire) - r->pos;
	return used > r->size ? r->size : used;
}

/* Producer: put as many of len bytes as fit; returns how many. */
static inline size_t byte_ring_write(struct byte_ring_end *r, const uint8_t *bytes, size_t len)
{
	uint32_t room = byte_ring_room(r), n = len < room ? (uint32_t)len : room;
	for (uint32_t i = 0; i < n; i++)
		r->bytes[(r->pos + i) & (r->size - 1)] = bytes[i];
	r->pos += n;
	/* seq_cst, so that a consumer that goes to sleep after byte_ring_used() and a waker cannot miss each other */
	if (n)
		atomic_store_explicit(&r->ring->head, r->pos, memory_order_seq_cst);
	return n;
}

static inline bool byte_ring_put(struct byte_ring_end *r, uint8_t byte)
{
	return byte_ring_write(r, &byte, 1) == 1;
}

/* Producer, after a write: has the consumer taken everything that was there before the last n bytes? Then wake it. */
static inline bool byte_ring_was_empty(const struct byte_ring_end *r, uint32_t n)
{
	uint32_t tail = atomic_load_explicit(&r->ring->tail, memory_order_seq_cst);
	return r->pos - tail <= n || r->pos - tail > r->size;
}

/* Consumer: copy up to len bytes and leave them in the ring; returns how many. */
static inline size_t byte_ring_peek(const struct byte_ring_end *r, uint8_t *bytes, size_t len)
{
	uint32_t used = byte_ring_used(r), n = len < used ? (uint32_t)len : used;
	for (uint32_t i = 0; i < n; i++)
		bytes[i] = r->bytes[(r->pos + i) & (r->size - 1)];
	return n;
}

/* Consumer: n of the bytes that were peeked are done with. Never give bytes back: their room may be in use again. */
static inline void byte_ring_consume(struct byte_ring_end *r, size_t n)
{
	r->pos += (uint32_t)n;
	if (n)
		atomic_store_explicit(&r->ring->tail, r->pos, memory_order_seq_cst);
}

/* Consumer: take up to len bytes; returns how many. */
static inline size_t byte_ring_read(struct byte_ring_end *r, uint8_t *bytes, size_t len)
{
	size_t n = byte_ring_peek(r, bytes, len);
	byte_ring_consume(r, n);
	return n;
}

static inline bool byte_ring_get(struct byte_ring_end *r, uint8_t *byte)
{
	return byte_ring_read(r, byte, 1) == 1;
}

#endif
