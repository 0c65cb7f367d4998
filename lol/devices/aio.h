/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Asynchronous file I/O for back-ends: io_uring, or a few worker threads where the host refuses io_uring (Docker's
 * default seccomp profile, kernel.io_uring_disabled). All functions and callbacks run in the loop's thread.
 */
#ifndef LOL_DEVICES_AIO_H
#define LOL_DEVICES_AIO_H

#include "../loop.h"
#include "../types.h"

#include <sched.h>
#include <sys/uio.h>

struct aio;

enum aio_engine { AIO_AUTO, AIO_THREADS };
enum aio_code { AIO_READ, AIO_WRITE, AIO_SYNC, AIO_ALLOCATE };

/* Belongs to the caller and stays put, with what it points to, until done() is called. */
struct aio_op {
	enum aio_code code;
	int fd;
	int mode;          /* AIO_ALLOCATE: FALLOC_FL_* */
	struct iovec *iov; /* AIO_READ, AIO_WRITE */
	unsigned iovcnt;
	uint64_t offset, len;                            /* bytes; len for AIO_ALLOCATE only */
	void (*done)(struct aio_op *op, int64_t result); /* bytes or 0, or a negative errno; may be short */
	/* private */
	int64_t result;
	struct aio_op *next;
};

/*
 * batch_done(arg) is called after every batch of done() calls, so that a device interrupts its driver once. name is for
 * the report of a fallback. NULL with errno set.
 */
struct aio *aio_create(struct loop *loop, enum aio_engine engine, const char *name, void (*batch_done)(void *arg),
		       void *arg);
void aio_destroy(struct aio *aio);                   /* drains */
void aio_submit(struct aio *aio, struct aio_op *op); /* queue it */
void aio_kick(struct aio *aio);                      /* start what is queued */
void aio_bind(const cpu_set_t *cpus); /* where the threads run with which io_uring works for this one; a wish */
void aio_drain(struct aio *aio);      /* kick, then wait until everything is done; done() may submit more */

#endif
