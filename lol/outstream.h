/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * An output of the monitor (its stdout, a pty, a socket) that never blocks the loop and never loses a byte: what the file
 * does not take now waits in a bounded queue, and what does not fit there is not taken from the caller.
 *
 * The caller's descriptor is not made non-blocking: it is shared with other programs (the shell). Terminals and pipes are
 * opened a second time instead, sockets are written with MSG_DONTWAIT.
 */
#ifndef LOL_OUTSTREAM_H
#define LOL_OUTSTREAM_H

#include "loop.h"
#include "types.h"

struct outstream;

/* changed(arg): there is room again after a short write, the queue has become empty, or the stream has broken. */
struct outstream *outstream_create(struct loop *loop, int fd, void (*changed)(void *arg), void *arg); /* NULL: errno */
void outstream_destroy(struct outstream *o); /* drops what is queued */

size_t outstream_write(struct outstream *o, const void *bytes, size_t len); /* bytes taken; a broken stream takes all */
bool outstream_empty(const struct outstream *o); /* everything is out, or the stream is broken */
int outstream_error(const struct outstream *o);  /* 0, or the errno that broke it: EPIPE: the reader has gone */
/* Wait until everything is out, as long as that takes. False: not all is, and a blocked SIGINT, SIGTERM, SIGHUP or SIGQUIT is pending. */
bool outstream_flush(struct outstream *o);
void outstream_flush_for(struct outstream *o, int ms); /* the same, while something goes out at least every ms */

#endif
