/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The server of the control socket: connections, lines, JSON. What requests mean is decided elsewhere
 * (machine_control.c); the protocol is lol-control(7).
 *
 * Clients are the user's own programs, maybe broken ones. Everything is bounded: connections (the one that has been quiet
 * longest makes room for a new one), the length of a line, what waits to be sent. A client is read only when its last
 * request has been answered and the answer has left, so that a slow one holds up itself alone. Nothing here waits.
 *
 * All in the loop's thread. The loop may change (the guest has restarted): control_set_loop().
 */
#ifndef LOL_CONTROL_H
#define LOL_CONTROL_H

#include "loop.h"
#include "types.h"

#include <jansson.h>

#define CONTROL_LINE_MAX 65536u /* bytes of a request with its newline */
#define CONTROL_CLIENTS_MAX 32u
#define CONTROL_OUT_MAX 1048576u /* bytes that wait for a client; more than that of a byte stream is skipped */

struct control;
struct control_client;

struct control_ops {
	/* A request: answer it with control_answer() or control_fail(), at once or later. args is the whole object. */
	void (*request)(void *ctx, struct control_client *c, const char *what, const json_t *args);
	/* Bytes from a client in stream mode; returns how many were taken. After less than all: control_stream_resume(). */
	size_t (*stream)(void *ctx, struct control_client *c, const uint8_t *bytes, size_t len);
	/* The client is gone, with its request unanswered or in stream mode; do not use it any more. */
	void (*gone)(void *ctx, struct control_client *c);
	/* After gone() for the old loop: the client is in stream mode still, in the new one. */
	void (*again)(void *ctx, struct control_client *c);
};

/* listen_fd stays the caller's. NULL: out of memory. */
struct control *control_create(int listen_fd, const struct control_ops *ops);
void control_destroy(struct control *control); /* closes the connections */

/*
 * Serve in this loop, for this ctx; NULL: not any more (connections stay, requests that wait for an answer are
 * answered as failed). Returns 0 or a negative errno.
 */
int control_set_loop(struct control *control, struct loop *loop, void *ctx);

/* Take a connection that did not come from the socket (tests). 0 or a negative errno; fd is closed in any case. */
int control_add_client(struct control *control, int fd);

/* One of these once for each request. answer: an object, which is taken over; "ok" and "id" are added. NULL: {}. */
void control_answer(struct control_client *c, json_t *answer);
void control_fail(struct control_client *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Before the answer: behind it, everything on this connection is bytes, in both directions. */
void control_stream_begin(struct control_client *c);
void control_stream_write(struct control_client *c, const uint8_t *bytes, size_t len);
void control_stream_resume(struct control_client *c); /* there is room for input again */

/*
 * A client without a connection, for requests from within: answer() is called once with the complete answer; it stays
 * the caller's. To be freed by control_local_free(), also before the answer.
 */
struct control_client *control_local(void (*answer)(void *arg, const json_t *answer), void *arg);
bool control_is_local(const struct control_client *c); /* it cannot have a stream */
void control_local_free(struct control_client *c);

#endif
