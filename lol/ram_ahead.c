/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A piece of memory that a host has never used, or has reported to its own hypervisor as free, takes 5 ms instead of 0.1 until it is
 * there: 512 faults of the virtual machine that the host is. Guests on such hosts (clouds, CI) take all of their memory at that price,
 * and wait for it. The price is paid on the CPU that touches the memory, so a thread of the monitor can pay half of it on another one
 * while the guest pays the other half, and some of it before the guest needs it.
 *
 * Which pieces does a guest take next? Linux hands out free blocks of 4 MiB in ascending order after boot, in descending order after
 * it has reported them to the balloon, and from each the lower half first. As with files that are read ahead, the window doubles for
 * each piece that was to be expected, and halves behind one that was not. Of the window the thread takes the second missing piece
 * each time: the guest, which takes the first itself, is not in the way.
 *
 * The thread sees a piece that the guest takes by the file's size on the host (st_blocks). It looks often while the file grows,
 * less and less when it does not, and then not at all until the monitor has something to do for the guest. On a host where a piece
 * comes quickly this one piece is all: the first quick one ends the window.
 */
#include "ram_ahead.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clock.h"
#include "thread.h"
#include "types.h"

#ifndef MADV_POPULATE_WRITE /* Linux 5.14 */
#define MADV_POPULATE_WRITE 23
#endif

#define BLOCK 2        /* pieces that are free together: the buddy system's largest block */
#define WINDOW_FIRST 8 /* pieces */
#define LOOK_MIN_US 1000u
#define LOOK_MAX_US 16000u
#define LOOK_SHARE 20  /* between looks at least so many times what one takes */
#define UNSEEN_MAX 20u /* looks for a piece that has been counted already */
#define PIECE_BLOCKS (RAM_PIECE / 512)
#define LOOKS_MAX 12 /* in vain, of which the last 8 are LOOK_MAX_US apart */

struct ram_ahead {
	int fd;
	uint8_t *base;
	int64_t pieces;
	unsigned max; /* of a window, pieces */
	uint64_t slow_ns;
	struct ram_ahead_cpus cpus;
	int avoided;  /* what avoid said the last time */
	unsigned cpu; /* the last that it has gone to */
	bool *taken;  /* for each piece: the file has it, as of the last look */
	_Atomic uint64_t count;

	/* The window: blocks from where the guest was to the window's end, in the direction in which it goes (1, -1). */
	int64_t from, to;
	int direction;
	unsigned window; /* pieces */
	unsigned coming; /* those of it that were not there yet: the first ones of row, in the guest's order */
	int64_t row[RAM_AHEAD_MAX / RAM_PIECE];

	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	_Atomic bool asleep, stop; /* changed with lock held */
	_Atomic bool hold;
};

static uint64_t blocks_of(const struct ram_ahead *a)
{
	struct stat st;

	return fstat(a->fd, &st) == 0 ? (uint64_t)st.st_blocks : 0;
}

/* The piece behind another one, in the order in which a guest takes them. */
static int64_t next_piece(int64_t piece, int direction)
{
	return piece % BLOCK != BLOCK - 1 ? piece + 1 : (piece / BLOCK + direction) * BLOCK;
}

static bool is_there(const struct ram_ahead *a, int64_t piece)
{
	unsigned char there;

	return mincore(a->base + (uint64_t)piece * RAM_PIECE, 1, &there) == 0 && there & 1;
}

/* Which of the window's pieces have come? As look() does, for a tenth of the time. */
static int64_t look_near(struct ram_ahead *a, unsigned *come)
{
	int64_t last = -1;
	unsigned missing = 0;

	for (unsigned i = 0; i < a->coming; i++)
		if (!is_there(a, a->row[i]))
			a->row[missing++] = a->row[i];
		else if (!a->taken[a->row[i]])
			a->taken[last = a->row[i]] = true, ++*come;
	a->coming = missing;
	return last;
}

/* Bring taken up to date. Returns the last of the pieces that have come, or -1, and how many have. */
static int64_t look(struct ram_ahead *a, unsigned *come)
{
	int64_t first = -1, last = -1, piece = 0;
	off_t data = 0, hole = 0;

	while (piece < a->pieces) {
		data = lseek(a->fd, hole, SEEK_DATA);
		hole = data < 0 ? data : lseek(a->fd, data, SEEK_HOLE);
		if (hole < 0) /* no more data */
			data = hole = a->pieces * (int64_t)RAM_PIECE;
		for (; piece < MIN(data / (int64_t)RAM_PIECE, a->pieces); piece++)
			a->taken[piece] = false;
		for (; piece < MIN((hole + (int64_t)RAM_PIECE - 1) / (int64_t)RAM_PIECE, a->pieces); piece++) {
			if (!a->taken[piece])
				first = first < 0 ? piece : first, last = piece, ++*come;
			a->taken[piece] = true;
		}
	}
	if (a->direction < 0 && first >= 0) /* the lowest block's upper one */
		last = first % BLOCK == 0 && last > first && a->taken[first + 1] ? first + 1 : first;
	return last;
}

/* The CPUs that it may use now. */
static cpu_set_t allowed(struct ram_ahead *a)
{
	cpu_set_t set = a->cpus.all;

	if (a->cpus.home)
		a->avoided = a->cpus.avoid[atomic_load_explicit(a->cpus.home, memory_order_relaxed) != 0];
	if (a->avoided >= 0)
		CPU_CLR((unsigned)a->avoided, &set);
	return set;
}

static void go_to(const cpu_set_t *set)
{
	sched_setaffinity(0, sizeof(*set), set); /* a wish: cpusets may forbid it */
}

/* The next of the CPUs that it may use. */
static void move_on(struct ram_ahead *a)
{
	cpu_set_t set = allowed(a), one;

	do {
		a->cpu = (a->cpu + 1) % CPU_SETSIZE;
	} while (!CPU_ISSET(a->cpu, &set));
	CPU_ZERO(&one);
	CPU_SET(a->cpu, &one);
	go_to(&one);
}

/* Away from the CPU that the guest's kernel has come to. */
static void keep_away(struct ram_ahead *a)
{
	int before = a->avoided;
	cpu_set_t set = allowed(a);

	if (a->avoided != before)
		go_to(&set);
}

/*
 * False: that is enough. Not by a plain access: a host that has no more memory would end the monitor for it. It is worth nothing on
 * the CPU on which the guest does the same, and the host, which does not see these 5 ms as a load, would leave both there.
 */
static bool take(struct ram_ahead *a, int64_t piece)
{
	keep_away(a);

	uint64_t start = clock_ns(CLOCK_MONOTONIC), work = clock_ns(CLOCK_THREAD_CPUTIME_ID);
	if (madvise(a->base + (uint64_t)piece * RAM_PIECE, RAM_PIECE, MADV_POPULATE_WRITE) < 0)
		return false;
	a->taken[piece] = true;
	atomic_fetch_add_explicit(&a->count, 1, memory_order_relaxed);
	uint64_t took = clock_ns(CLOCK_MONOTONIC) - start;
	work = clock_ns(CLOCK_THREAD_CPUTIME_ID) - work;
	if (took - MIN(took, work) > took / 4)
		move_on(a);
	return work >= a->slow_ns;
}

/* The guest has taken a piece: where it goes, and how far ahead of it memory is to be there. */
static void expect(struct ram_ahead *a, int64_t piece)
{
	int64_t next = piece, block = piece / BLOCK;
	int64_t low = MIN(a->from, a->to), high = a->from + a->to - low;

	a->window = block >= low - BLOCK && block <= high + BLOCK ? MIN(a->window * 2, a->max) : MAX(a->window / 2, 1);
	if (block < low || block > high)
		a->direction = block < a->from ? -1 : 1;
	a->from = a->to = block;
	a->coming = 0;
	for (unsigned i = 0; i < a->window; i++) {
		next = next_piece(next, a->direction);
		if (next < 0 || next >= a->pieces)
			break;
		if (!a->taken[next])
			a->row[a->coming++] = next;
		a->to = next / BLOCK;
	}
}

/*
 * Take the second of the pieces that are missing, since the guest is at the first, or will be sooner than it is there. False: there
 * is none, or no need for it.
 */
static bool take_one(struct ram_ahead *a)
{
	int64_t missing[2];
	unsigned n = 0;

	for (unsigned i = 0; i < a->coming && n < 2; i++)
		if (!is_there(a, a->row[i]))
			missing[n++] = a->row[i];
	if (!n || atomic_load(&a->stop) || atomic_load(&a->hold))
		return false;
	if (take(a, missing[n - 1]))
		return true;
	a->window = 1; /* there is no need to hurry */
	a->to = a->from;
	a->coming = 0;
	return false;
}

/* Until us have passed, or for as long as it takes, until there is something to do. False: the end. */
static bool rest(struct ram_ahead *a, uint64_t us, bool asleep)
{
	struct timespec until;

	pthread_mutex_lock(&a->lock);
	if (asleep) {
		atomic_store(&a->asleep, true);
		while (atomic_load(&a->asleep) && !atomic_load(&a->stop))
			pthread_cond_wait(&a->wake, &a->lock);
	} else {
		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_nsec += (long)us * 1000;
		until.tv_sec += until.tv_nsec / 1000000000;
		until.tv_nsec %= 1000000000;
		while (!atomic_load(&a->stop) && pthread_cond_timedwait(&a->wake, &a->lock, &until) != ETIMEDOUT)
			;
	}
	pthread_mutex_unlock(&a->lock);
	return !atomic_load(&a->stop);
}

static void *work(void *arg)
{
	struct ram_ahead *a = arg;
	uint64_t blocks = 0, us = LOOK_MIN_US;
	unsigned in_vain = 0, unseen = 0;

	cpu_set_t set = allowed(a);
	go_to(&set);
	while (rest(a, us, in_vain >= LOOKS_MAX)) {
		uint64_t now = blocks_of(a), start = clock_ns(CLOCK_THREAD_CPUTIME_ID), before = ram_ahead_taken(a),
			 cost, own;
		bool first = !blocks; /* what is there at the beginning is not news */
		unsigned come = 0;
		if (in_vain >= LOOKS_MAX || now != blocks) {
			us = LOOK_MIN_US;
			in_vain = 0;
		} else {
			us = MIN(us * 2, LOOK_MAX_US);
			in_vain++;
		}
		if (now == blocks)
			continue;
		if (now < blocks) /* the guest has given some back */
			a->coming = 0;
		int64_t piece = look_near(a, &come);
		if (piece < 0)
			piece = look(a, &come);
		cost = (clock_ns(CLOCK_THREAD_CPUTIME_ID) - start) / 1000;
		/* The host counts a piece when it begins to fill it, and shows it when it is done. */
		if (now > blocks + come * PIECE_BLOCKS && !first && unseen++ < UNSEEN_MAX) {
			blocks += come * PIECE_BLOCKS;
		} else {
			unseen = 0;
			blocks = now;
		}
		if (piece >= 0 && !first && !atomic_load(&a->hold))
			expect(a, piece);
		do { /* until the guest has begun another one: then the window moves */
			own = (ram_ahead_taken(a) - before) * PIECE_BLOCKS;
			us = blocks_of(a) == now + own ? LOOK_MIN_US : 0;
		} while (us && take_one(a));
		us += cost * LOOK_SHARE; /* where it comes in small pages, or there is a lot of it */
		blocks += own;
	}
	return NULL;
}

struct ram_ahead *ram_ahead_start(int fd, uint8_t *base, uint64_t size, const struct ram_ahead_cpus *cpus,
				  uint64_t slow_ns)
{
	unsigned max = (unsigned)(MIN(size / 32, RAM_AHEAD_MAX) / RAM_PIECE);
	struct ram_ahead *a = max ? calloc(1, sizeof(*a)) : NULL;
	pthread_condattr_t attr;

	if (!max)
		errno = EINVAL;
	if (!a)
		return NULL;
	*a = (struct ram_ahead){.fd = fd, .base = base, .pieces = (int64_t)(size / RAM_PIECE), .max = max};
	a->slow_ns = slow_ns;
	a->cpus = *cpus;
	a->avoided = -1;
	a->direction = 1;
	a->window = MIN(WINDOW_FIRST, max);
	a->taken = calloc((size_t)a->pieces, sizeof(*a->taken));
	pthread_mutex_init(&a->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&a->wake, &attr);
	pthread_condattr_destroy(&attr);

	int ret = a->taken ? thread_start(&a->thread, work, a) : ENOMEM;
	if (!ret)
		return a;
	free(a->taken);
	free(a);
	errno = ret;
	return NULL;
}

void ram_ahead_stop(struct ram_ahead *a)
{
	if (!a)
		return;
	pthread_mutex_lock(&a->lock);
	atomic_store(&a->stop, true);
	pthread_cond_signal(&a->wake);
	pthread_mutex_unlock(&a->lock);
	pthread_join(a->thread, NULL);
	pthread_cond_destroy(&a->wake);
	pthread_mutex_destroy(&a->lock);
	free(a->taken);
	free(a);
}

void ram_ahead_wake(struct ram_ahead *a)
{
	if (!atomic_load_explicit(&a->asleep, memory_order_relaxed))
		return;
	pthread_mutex_lock(&a->lock);
	atomic_store(&a->asleep, false);
	pthread_cond_signal(&a->wake);
	pthread_mutex_unlock(&a->lock);
}

void ram_ahead_hold(struct ram_ahead *a, bool hold)
{
	atomic_store(&a->hold, hold);
}

uint64_t ram_ahead_taken(const struct ram_ahead *a)
{
	return atomic_load_explicit(&a->count, memory_order_relaxed);
}
