/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Asynchronous file I/O. See aio.h.
 *
 * Both engines tell of completions by an eventfd in the loop. Ops wait in `queue` until the engine takes them: io_uring
 * when its submission ring has room, the workers when one is free.
 */
#include "aio.h"
#include "report.h"
#include "thread.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define RING_ENTRIES 256
#define WORKERS 4

static struct aio *last_ring; /* the newest */

struct op_list {
	struct aio_op *first, **last;
};

struct aio {
	struct loop *loop;
	void (*batch_done)(void *arg);
	void *arg;
	int event_fd;
	unsigned inflight; /* submitted by the device, done() not called yet */
	bool uses_ring;
	struct op_list queue;

	struct io_uring ring;

	/* of the workers; lock guards them, queue and finished */
	pthread_t workers[WORKERS];
	unsigned nworkers;
	pthread_mutex_t lock;
	pthread_cond_t work, progress;
	struct op_list finished;
	bool stop;
};

static void list_init(struct op_list *l)
{
	l->first = NULL;
	l->last = &l->first;
}

static void list_add(struct op_list *l, struct aio_op *op)
{
	op->next = NULL;
	*l->last = op;
	l->last = &op->next;
}

static struct aio_op *list_take(struct op_list *l)
{
	struct aio_op *op = l->first;
	if (!op)
		return NULL;
	l->first = op->next;
	if (!l->first)
		l->last = &l->first;
	return op;
}

static void finish(struct aio *aio, struct aio_op *op, int64_t result)
{
	aio->inflight--;
	op->done(op, result);
}

static void wake_loop(struct aio *aio)
{
	uint64_t one = 1;
	if (write(aio->event_fd, &one, sizeof(one)) < 0)
		return; /* at its maximum: pending anyway */
}

/* ---- io_uring ---- */

static int ring_open(struct aio *aio)
{
	int r = io_uring_queue_init(RING_ENTRIES, &aio->ring, 0);
	if (r)
		return r;
	struct io_uring_probe *probe = io_uring_get_probe_ring(&aio->ring);
	bool good = probe && io_uring_opcode_supported(probe, IORING_OP_READV) &&
		    io_uring_opcode_supported(probe, IORING_OP_WRITEV) &&
		    io_uring_opcode_supported(probe, IORING_OP_FSYNC) &&
		    io_uring_opcode_supported(probe, IORING_OP_FALLOCATE);
	io_uring_free_probe(probe);
	r = good ? io_uring_register_eventfd(&aio->ring, aio->event_fd) : -EOPNOTSUPP;
	if (r) {
		io_uring_queue_exit(&aio->ring);
		return r;
	}
	aio->uses_ring = true;
	last_ring = aio;
	return 0;
}

void aio_bind(const cpu_set_t *cpus)
{
	if (last_ring) /* the threads belong to the process's thread, whatever the ring */
		io_uring_register_iowq_aff(&last_ring->ring, sizeof(*cpus), cpus);
}

static void ring_prepare(struct io_uring_sqe *sqe, struct aio_op *op)
{
	switch (op->code) {
	case AIO_READ:
		io_uring_prep_readv(sqe, op->fd, op->iov, op->iovcnt, op->offset);
		break;
	case AIO_WRITE:
		io_uring_prep_writev(sqe, op->fd, op->iov, op->iovcnt, op->offset);
		break;
	case AIO_SYNC:
		io_uring_prep_fsync(sqe, op->fd, IORING_FSYNC_DATASYNC);
		break;
	case AIO_ALLOCATE:
		io_uring_prep_fallocate(sqe, op->fd, op->mode, (off_t)op->offset, (off_t)op->len);
		break;
	}
	io_uring_sqe_set_data(sqe, op);
}

static unsigned ring_reap(struct aio *aio)
{
	struct io_uring_cqe *cqe;
	unsigned n = 0;
	while (io_uring_peek_cqe(&aio->ring, &cqe) == 0 && cqe) {
		struct aio_op *op = io_uring_cqe_get_data(cqe);
		int64_t result = cqe->res;
		io_uring_cqe_seen(&aio->ring, cqe);
		finish(aio, op, result);
		n++;
	}
	return n;
}

static void ring_kick(struct aio *aio)
{
	for (;;) {
		struct io_uring_sqe *sqe;
		while (aio->queue.first && (sqe = io_uring_get_sqe(&aio->ring)))
			ring_prepare(sqe, list_take(&aio->queue));
		if (!io_uring_sq_ready(&aio->ring))
			return;
		int r = io_uring_submit(&aio->ring);
		if (r < 0 && r != -EINTR) {
			/* The kernel is short of something for a moment; what is queued stays. Come back soon. */
			wake_loop(aio);
			return;
		}
		/* What the host had in memory is done already. */
		ring_reap(aio);
	}
}

static void ring_wait(struct aio *aio)
{
	struct __kernel_timespec limit = {.tv_nsec = 10000000}; /* so that a failed submission is tried again */
	struct io_uring_cqe *cqe;
	io_uring_wait_cqe_timeout(&aio->ring, &cqe, &limit);
}

/* ---- worker threads ---- */

static int64_t run_op(const struct aio_op *op)
{
	ssize_t r = -1;
	do {
		switch (op->code) {
		case AIO_READ:
			r = preadv(op->fd, op->iov, (int)op->iovcnt, (off_t)op->offset);
			break;
		case AIO_WRITE:
			r = pwritev(op->fd, op->iov, (int)op->iovcnt, (off_t)op->offset);
			break;
		case AIO_SYNC:
			r = fdatasync(op->fd);
			break;
		case AIO_ALLOCATE:
			r = fallocate(op->fd, op->mode, (off_t)op->offset, (off_t)op->len);
			break;
		}
	} while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : r;
}

static void *worker(void *arg)
{
	struct aio *aio = arg;
	pthread_mutex_lock(&aio->lock);
	for (;;) {
		struct aio_op *op = list_take(&aio->queue);
		if (op) {
			pthread_mutex_unlock(&aio->lock);
			op->result = run_op(op);
			pthread_mutex_lock(&aio->lock);
			list_add(&aio->finished, op);
			pthread_cond_signal(&aio->progress);
			wake_loop(aio);
		} else if (aio->stop) {
			break;
		} else {
			pthread_cond_wait(&aio->work, &aio->lock);
		}
	}
	pthread_mutex_unlock(&aio->lock);
	return NULL;
}

static int workers_start(struct aio *aio)
{
	int r = 0;
	while (aio->nworkers < WORKERS) {
		r = thread_start(&aio->workers[aio->nworkers], worker, aio);
		if (r)
			break;
		aio->nworkers++;
	}
	return aio->nworkers ? 0 : -r;
}

static void workers_stop(struct aio *aio)
{
	pthread_mutex_lock(&aio->lock);
	aio->stop = true;
	pthread_cond_broadcast(&aio->work);
	pthread_mutex_unlock(&aio->lock);
	for (unsigned i = 0; i < aio->nworkers; i++)
		pthread_join(aio->workers[i], NULL);
}

static unsigned workers_reap(struct aio *aio)
{
	unsigned n = 0;
	pthread_mutex_lock(&aio->lock);
	struct aio_op *list = aio->finished.first;
	list_init(&aio->finished);
	pthread_mutex_unlock(&aio->lock);
	while (list) {
		struct aio_op *op = list;
		list = op->next;
		finish(aio, op, op->result);
		n++;
	}
	return n;
}

static void workers_wait(struct aio *aio)
{
	pthread_mutex_lock(&aio->lock);
	while (!aio->finished.first)
		pthread_cond_wait(&aio->progress, &aio->lock);
	pthread_mutex_unlock(&aio->lock);
}

/* ---- both ---- */

static void completion_event(void *arg, uint32_t events)
{
	struct aio *aio = arg;
	uint64_t count;
	(void)events;
	if (read(aio->event_fd, &count, sizeof(count)) < 0 && errno != EAGAIN)
		return;
	if (aio->uses_ring)
		ring_reap(aio);
	else
		workers_reap(aio);
	aio_kick(aio);
	aio->batch_done(aio->arg);
}

static int engine_start(struct aio *aio, enum aio_engine engine, const char *name)
{
	int r = engine == AIO_AUTO ? ring_open(aio) : -EOPNOTSUPP;
	if (!r)
		return 0;
	if (engine == AIO_AUTO)
		device_report(REPORT_VERBOSE, "%s: the host refuses io_uring (%s), using worker threads instead", name,
			      strerror(-r));
	return workers_start(aio);
}

struct aio *aio_create(struct loop *loop, enum aio_engine engine, const char *name, void (*batch_done)(void *arg),
		       void *arg)
{
	struct aio *aio = calloc(1, sizeof(*aio));
	if (!aio)
		return NULL;
	aio->loop = loop;
	aio->batch_done = batch_done;
	aio->arg = arg;
	list_init(&aio->queue);
	list_init(&aio->finished);
	pthread_mutex_init(&aio->lock, NULL);
	pthread_cond_init(&aio->work, NULL);
	pthread_cond_init(&aio->progress, NULL);
	int r;
	aio->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (aio->event_fd >= 0) {
		r = engine_start(aio, engine, name);
		if (!r)
			r = loop_add_fd(loop, aio->event_fd, EPOLLIN, completion_event, aio);
		if (!r)
			return aio;
	} else {
		r = -errno;
	}
	aio_destroy(aio);
	errno = -r;
	return NULL;
}

void aio_destroy(struct aio *aio)
{
	if (!aio)
		return;
	aio_drain(aio);
	if (last_ring == aio)
		last_ring = NULL;
	if (aio->uses_ring)
		io_uring_queue_exit(&aio->ring);
	else
		workers_stop(aio);
	if (aio->event_fd >= 0) {
		loop_del_fd(aio->loop, aio->event_fd);
		close(aio->event_fd);
	}
	pthread_cond_destroy(&aio->progress);
	pthread_cond_destroy(&aio->work);
	pthread_mutex_destroy(&aio->lock);
	free(aio);
}

void aio_submit(struct aio *aio, struct aio_op *op)
{
	aio->inflight++;
	if (aio->uses_ring) {
		list_add(&aio->queue, op);
		return;
	}
	pthread_mutex_lock(&aio->lock);
	list_add(&aio->queue, op);
	pthread_cond_signal(&aio->work);
	pthread_mutex_unlock(&aio->lock);
}

void aio_kick(struct aio *aio)
{
	if (aio->uses_ring)
		ring_kick(aio);
}

void aio_drain(struct aio *aio)
{
	while (aio->inflight) {
		aio_kick(aio);
		if (aio->uses_ring) {
			if (!ring_reap(aio))
				ring_wait(aio);
		} else if (!workers_reap(aio)) {
			workers_wait(aio);
		}
	}
}
