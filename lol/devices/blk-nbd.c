/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * libnbd takes one buffer for an operation, a driver gives lists: an operation with one vector works in guest memory itself,
 * any other through a buffer of ours.
 */
#include "blk-nbd.h"

#include <errno.h>
#include <libnbd.h>
#include <linux/falloc.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct blk_nbd {
	struct nbd_handle *handle; /* NULL: disconnected */
	struct loop *loop;
	int fd; /* libnbd's; -1 once it is not watched any more */
	uint64_t size;
	unsigned inflight;
	void (*batch_done)(void *arg);
	void *arg;
};

struct operation {
	struct blk_nbd *nbd;
	struct aio_op *op;
	uint8_t *buffer; /* or NULL */
	uint64_t len;
};

static void copy(const struct aio_op *op, uint8_t *buffer, bool to_guest)
{
	for (unsigned i = 0; i < op->iovcnt; i++) {
		if (to_guest)
			memcpy(op->iov[i].iov_base, buffer, op->iov[i].iov_len);
		else
			memcpy(buffer, op->iov[i].iov_base, op->iov[i].iov_len);
		buffer += op->iov[i].iov_len;
	}
}

/* libnbd tells in several ways that the server has gone. */
static int64_t failure(int error)
{
	return error > 0 && error != ENOTCONN && error != ESHUTDOWN ? -error : -EIO;
}

static int completed(void *arg, int *error)
{
	struct operation *o = arg;
	struct aio_op *op = o->op;
	int64_t result = *error ? failure(*error) : (int64_t)o->len;

	if (result >= 0 && o->buffer && op->code == AIO_READ)
		copy(op, o->buffer, true);
	if (result > 0 && op->code != AIO_READ && op->code != AIO_WRITE)
		result = 0;
	o->nbd->inflight--;
	free(o->buffer);
	free(o);
	op->done(op, result);
	return 1; /* libnbd may forget it */
}

/* libnbd says what it waits for; it may be another thing after each call. */
static void watch(struct blk_nbd *nbd)
{
	unsigned direction = nbd_aio_get_direction(nbd->handle);

	if (nbd->fd < 0)
		return;
	if (nbd_aio_is_dead(nbd->handle) || nbd_aio_is_closed(nbd->handle)) {
		loop_del_fd(nbd->loop, nbd->fd);
		nbd->fd = -1;
		return;
	}
	loop_mod_fd(nbd->loop, nbd->fd,
		    (direction & LIBNBD_AIO_DIRECTION_READ ? EPOLLIN : 0) |
			    (direction & LIBNBD_AIO_DIRECTION_WRITE ? EPOLLOUT : 0));
}

static void notify(struct blk_nbd *nbd, bool in, bool out)
{
	unsigned direction = nbd_aio_get_direction(nbd->handle);

	if (in && direction & LIBNBD_AIO_DIRECTION_READ)
		nbd_aio_notify_read(nbd->handle);
	else if (out && direction & LIBNBD_AIO_DIRECTION_WRITE)
		nbd_aio_notify_write(nbd->handle);
}

static void event(void *arg, uint32_t events)
{
	struct blk_nbd *nbd = arg;

	notify(nbd, events & (EPOLLIN | EPOLLHUP | EPOLLERR), events & EPOLLOUT);
	watch(nbd);
	if (nbd->batch_done)
		nbd->batch_done(nbd->arg);
}

struct blk_nbd *blk_nbd_open(struct loop *loop, int fd, const char *export, char err[DEVICE_ERR])
{
	struct blk_nbd *nbd = calloc(1, sizeof(*nbd));

	if (!nbd) {
		close(fd);
		errno = ENOMEM;
		return NULL;
	}
	nbd->loop = loop;
	nbd->fd = -1;
	int ret = blk_nbd_reconnect(nbd, fd, export, err);
	if (!ret)
		return nbd;
	free(nbd);
	errno = -ret;
	return NULL;
}

int blk_nbd_reconnect(struct blk_nbd *nbd, int fd, const char *export, char err[DEVICE_ERR])
{
	int64_t size = -1;

	nbd->handle = nbd_create();
	if (!nbd->handle) {
		close(fd);
		return -ENOMEM;
	}
	/* It takes the descriptor with the call. Simple answers: without holes told apart, as READ wants none. */
	if (nbd_set_export_name(nbd->handle, export) == 0 &&
	    nbd_set_request_structured_replies(nbd->handle, false) == 0 && nbd_connect_socket(nbd->handle, fd) == 0)
		size = nbd_get_size(nbd->handle);
	nbd->fd = size > 0 ? nbd_aio_get_fd(nbd->handle) : -1;
	int error = nbd->fd < 0 ? EIO : -loop_add_fd(nbd->loop, nbd->fd, EPOLLIN, event, nbd);
	if (!error) {
		nbd->size = (uint64_t)size;
		return 0;
	}
	device_error(err, "%s", size == 0 ? "it is empty" : nbd_get_error() ? nbd_get_error() : strerror(error));
	nbd_close(nbd->handle);
	nbd->handle = NULL;
	nbd->fd = -1;
	return -error;
}

void blk_nbd_on_batch(struct blk_nbd *nbd, void (*batch_done)(void *arg), void *arg)
{
	nbd->batch_done = batch_done;
	nbd->arg = arg;
}

uint64_t blk_nbd_size(const struct blk_nbd *nbd)
{
	return nbd->size;
}

/* Where the data of a read or write are in one piece; the vectors of other operations mean nothing. */
static void *whole(const struct operation *o)
{
	if (o->buffer)
		return o->buffer;
	return o->op->iovcnt ? o->op->iov[0].iov_base : NULL;
}

static int64_t start(struct blk_nbd *nbd, struct operation *o, nbd_completion_callback done)
{
	struct aio_op *op = o->op;

	switch (op->code) {
	case AIO_READ:
		return nbd_aio_pread(nbd->handle, whole(o), o->len, op->offset, done, 0);
	case AIO_WRITE:
		return nbd_aio_pwrite(nbd->handle, whole(o), o->len, op->offset, done, 0);
	case AIO_SYNC:
		return nbd_aio_flush(nbd->handle, done, 0);
	case AIO_ALLOCATE:
		return nbd_aio_zero(nbd->handle, op->len, op->offset, done,
				    op->mode & FALLOC_FL_PUNCH_HOLE ? 0 : LIBNBD_CMD_FLAG_NO_HOLE);
	}
	return -1;
}

void blk_nbd_submit(struct blk_nbd *nbd, struct aio_op *op)
{
	struct operation *o = calloc(1, sizeof(*o));
	bool data = op->code == AIO_READ || op->code == AIO_WRITE;

	if (!o || nbd->fd < 0) {
		int error = o ? EIO : ENOMEM;
		free(o);
		op->done(op, -error);
		return;
	}
	*o = (struct operation){.nbd = nbd, .op = op};
	for (unsigned i = 0; data && i < op->iovcnt; i++)
		o->len += op->iov[i].iov_len;
	if (data && op->iovcnt > 1) {
		o->buffer = malloc(o->len);
		if (!o->buffer) {
			free(o);
			op->done(op, -ENOMEM);
			return;
		}
		if (op->code == AIO_WRITE)
			copy(op, o->buffer, false);
	}
	nbd->inflight++;
	/* On failure the callback is not called (libnbd(3), "Callbacks and errors"). */
	if (start(nbd, o, (nbd_completion_callback){.callback = completed, .user_data = o}) < 0) {
		int error = nbd_get_errno();
		nbd->inflight--;
		free(o->buffer);
		free(o);
		op->done(op, failure(error));
	}
	watch(nbd);
}

void blk_nbd_drain(struct blk_nbd *nbd)
{
	while (nbd->inflight && nbd->fd >= 0) {
		unsigned direction = nbd_aio_get_direction(nbd->handle);
		struct pollfd p = {.fd = nbd->fd,
				   .events = (short)((direction & LIBNBD_AIO_DIRECTION_READ ? POLLIN : 0) |
						     (direction & LIBNBD_AIO_DIRECTION_WRITE ? POLLOUT : 0))};
		if (poll(&p, 1, -1) < 0 && errno != EINTR)
			break;
		notify(nbd, p.revents & (POLLIN | POLLHUP | POLLERR), p.revents & POLLOUT);
		watch(nbd);
	}
}

void blk_nbd_disconnect(struct blk_nbd *nbd)
{
	blk_nbd_drain(nbd);
	if (nbd->fd >= 0) {
		loop_del_fd(nbd->loop, nbd->fd);
		nbd->fd = -1;
		nbd_shutdown(nbd->handle, 0);
	}
	nbd_close(nbd->handle);
	nbd->handle = NULL;
	if (nbd->batch_done)
		nbd->batch_done(nbd->arg);
}

void blk_nbd_close(struct blk_nbd *nbd)
{
	if (!nbd)
		return;
	nbd->batch_done = NULL;
	blk_nbd_disconnect(nbd);
	free(nbd);
}
