/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A disk behind an NBD server (libnbd): the same operations as aio.h has for files. All functions and callbacks run in the
 * loop's thread. When the server goes, everything ends with -EIO.
 */
#ifndef LOL_DEVICES_BLK_NBD_H
#define LOL_DEVICES_BLK_NBD_H

#include "aio.h"
#include "report.h"

struct blk_nbd;

/*
 * fd is a connected stream socket, and this function's in any case. Waits for the server's side of the handshake.
 * NULL with errno set, and in err what libnbd says.
 */
struct blk_nbd *blk_nbd_open(struct loop *loop, int fd, const char *export, char err[DEVICE_ERR]);
/*
 * Take leave of the server (drains), and come back over another connection, fd as above, when it may have another size: 0 or a
 * negative errno. Nothing may be submitted in between; without a way back everything ends with -EIO.
 */
void blk_nbd_disconnect(struct blk_nbd *nbd);
int blk_nbd_reconnect(struct blk_nbd *nbd, int fd, const char *export, char err[DEVICE_ERR]);
void blk_nbd_close(struct blk_nbd *nbd); /* drains, and takes leave */
uint64_t blk_nbd_size(const struct blk_nbd *nbd);
/* Called after every batch of done() calls. */
void blk_nbd_on_batch(struct blk_nbd *nbd, void (*batch_done)(void *arg), void *arg);
/* op->fd has no meaning; AIO_ALLOCATE makes zeroes, without space where the mode says so. done() may come before it returns. */
void blk_nbd_submit(struct blk_nbd *nbd, struct aio_op *op);
void blk_nbd_drain(struct blk_nbd *nbd);

#endif
