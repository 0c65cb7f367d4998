/* SPDX-License-Identifier: BSD-2-Clause */
#include "control.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct control_client {
	struct control *control; /* NULL: local */
	void (*local_answer)(void *arg, const json_t *answer);
	void *local_arg;
	int fd;
	bool waiting; /* for the answer to a request */
	bool streaming;
	bool closing;  /* when everything is sent */
	bool in_turn;  /* its request function is running: do not begin another */
	bool ended;    /* no more input comes */
	uint64_t used; /* clock of the last line, to find the quietest */
	json_t *id;    /* of the request */
	size_t in_len;
	uint8_t in[CONTROL_LINE_MAX];
	size_t out_len, out_sent, out_size;
	uint64_t skipped; /* bytes of the stream */
	char *out;
};

struct control {
	int listen_fd;
	const struct control_ops *ops;
	void *ctx;
	struct loop *loop;
	uint64_t clock;
	struct control_client *clients[CONTROL_CLIENTS_MAX];
};

static void process(struct control_client *c);
static void on_client(void *arg, uint32_t events);

/* ---- connections ---- */

static void client_close(struct control_client *c)
{
	struct control *control = c->control;

	for (unsigned i = 0; i < CONTROL_CLIENTS_MAX; i++)
		if (control->clients[i] == c)
			control->clients[i] = NULL;
	if (control->loop)
		loop_del_fd(control->loop, c->fd);
	if ((c->waiting || c->streaming) && control->ctx)
		control->ops->gone(control->ctx, c);
	close(c->fd);
	json_decref(c->id);
	free(c->out);
	free(c);
}

/* What to wait for now. A client that cannot be read is still watched for its end while it waits for an answer. */
static void watch(struct control_client *c)
{
	uint32_t events = c->out_len ? EPOLLOUT : 0;

	if (!c->ended && !c->closing && c->in_len < sizeof(c->in) && (c->streaming || (!c->waiting && !c->out_len)))
		events |= EPOLLIN;
	else if (!c->ended)
		events |= EPOLLRDHUP;
	if (c->control->loop)
		loop_mod_fd(c->control->loop, c->fd, events);
}

/* False: the connection has broken. */
static bool send_out(struct control_client *c)
{
	while (c->out_sent < c->out_len) {
		ssize_t n = send(c->fd, c->out + c->out_sent, c->out_len - c->out_sent, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN;
		c->out_sent += (size_t)n;
	}
	c->out_len = c->out_sent = 0;
	if (c->out_size > 65536) {
		free(c->out);
		c->out = NULL;
		c->out_size = 0;
	}
	return true;
}

/* False: no room (or no memory). */
static bool queue(struct control_client *c, const char *bytes, size_t len)
{
	if (c->out_sent) {
		c->out_len -= c->out_sent;
		memmove(c->out, c->out + c->out_sent, c->out_len);
		c->out_sent = 0;
	}
	if (c->out_len + len > CONTROL_OUT_MAX)
		return false;
	if (c->out_len + len > c->out_size) {
		size_t size = MAX(c->out_len + len, MIN(c->out_size * 2, (size_t)CONTROL_OUT_MAX));
		char *out = realloc(c->out, size);
		if (!out)
			return false;
		c->out = out;
		c->out_size = size;
	}
	memcpy(c->out + c->out_len, bytes, len);
	c->out_len += len;
	return true;
}

/* ---- answers ---- */

static void answer(struct control_client *c, json_t *object)
{
	if (!c->control) {
		c->local_answer(c->local_arg, object);
		json_decref(object);
		return;
	}
	if (c->id)
		json_object_set(object, "id", c->id);
	json_decref(c->id);
	c->id = NULL;
	c->waiting = false;
	char *text = json_dumps(object, JSON_COMPACT | JSON_ENSURE_ASCII);
	json_decref(object);
	if (!text || !queue(c, text, strlen(text)) || !queue(c, "\n", 1))
		c->closing = true; /* an answer is lost: the client must not wait for it */
	free(text);
	if (c->in_turn)
		return;
	send_out(c); /* where that fails, the loop says so again */
	process(c);
}

void control_answer(struct control_client *c, json_t *object)
{
	if (!object)
		object = json_object();
	json_object_set_new(object, "ok", json_true());
	answer(c, object);
}

void control_fail(struct control_client *c, const char *fmt, ...)
{
	char text[1024];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	json_t *object = json_object(), *why = json_string(text);
	json_object_set_new(object, "ok", json_false());
	json_object_set_new(object, "error", why ? why : json_string("an error that is not valid UTF-8"));
	answer(c, object);
}

/* ---- requests ---- */

static void take_line(struct control_client *c, const char *line, size_t len)
{
	struct control *control = c->control;
	json_error_t error;
	json_t *object;
	const char *what;

	if (len && line[len - 1] == '\r')
		len--;
	if (!len)
		return;
	c->used = ++control->clock;
	c->waiting = true;
	object = json_loadb(line, len, JSON_REJECT_DUPLICATES, &error);
	if (!json_is_object(object)) {
		control_fail(c, "request: %s; send one JSON object on a line, such as {\"do\": \"status\"}",
			     object ? "not an object" : error.text);
		json_decref(object);
		return;
	}
	c->id = json_incref(json_object_get(object, "id"));
	what = json_string_value(json_object_get(object, "do"));
	if (!what)
		control_fail(c,
			     "request: it has no \"do\"; send one JSON object on a line, such as {\"do\": \"status\"}");
	else if (!control->ctx)
		control_fail(c, "the guest is starting or ending; try again");
	else
		control->ops->request(control->ctx, c, what, object);
	json_decref(object);
}

static void give_stream(struct control_client *c)
{
	size_t n = c->control->ctx ? c->control->ops->stream(c->control->ctx, c, c->in, c->in_len) : 0;

	c->in_len -= MIN(n, c->in_len);
	memmove(c->in, c->in + n, c->in_len);
}

/* What has come, as far as it can be worked on now. May free c. */
static void process(struct control_client *c)
{
	c->in_turn = true;
	while (c->in_len && !c->waiting && !c->closing && !c->streaming && !c->out_len) {
		uint8_t *end = memchr(c->in, '\n', c->in_len);
		if (!end && c->in_len == sizeof(c->in)) {
			control_fail(c, "request: longer than %u bytes; the connection is closed", CONTROL_LINE_MAX);
			c->closing = true;
		}
		if (!end)
			break;
		size_t len = (size_t)(end - c->in);
		take_line(c, (const char *)c->in, len);
		c->in_len -= len + 1;
		memmove(c->in, end + 1, c->in_len);
		if (!send_out(c))
			c->ended = true;
	}
	if (c->streaming && c->in_len)
		give_stream(c);
	c->in_turn = false;
	if (!send_out(c) || (c->closing && !c->out_len) || (c->ended && !c->waiting && !c->out_len)) {
		client_close(c);
		return;
	}
	watch(c);
}

static void on_client(void *arg, uint32_t events)
{
	struct control_client *c = arg;
	ssize_t n = -1;

	if (events & (EPOLLHUP | EPOLLERR) &&
	    !(events & EPOLLIN)) { /* both directions are closed, and everything is read */
		client_close(c);
		return;
	}
	if (events & EPOLLIN) {
		n = recv(c->fd, c->in + c->in_len, sizeof(c->in) - c->in_len, MSG_DONTWAIT);
		if (n > 0)
			c->in_len += (size_t)n;
		else if (n == 0 || (errno != EAGAIN && errno != EINTR))
			c->ended = true;
	} else if (events & EPOLLRDHUP) {
		c->ended = true; /* it will ask nothing more; what it has asked is answered */
	}
	if (!send_out(c)) {
		client_close(c);
		return;
	}
	if (c->skipped && !c->out_len) { /* a stream's client has caught up */
		char note[64];
		int len = snprintf(note, sizeof(note), "\r\n[%llu bytes were skipped]\r\n",
				   (unsigned long long)c->skipped);
		c->skipped = 0;
		queue(c, note, (size_t)len);
	}
	process(c);
}

static struct control_client **free_slot(struct control *control)
{
	struct control_client **quietest = NULL;

	for (unsigned i = 0; i < CONTROL_CLIENTS_MAX; i++) {
		struct control_client **slot = &control->clients[i];
		if (!*slot)
			return slot;
		if (!(*slot)->waiting && !(*slot)->streaming && (!quietest || (*slot)->used < (*quietest)->used))
			quietest = slot;
	}
	if (quietest)
		client_close(*quietest);
	return quietest;
}

int control_add_client(struct control *control, int fd)
{
	struct control_client **slot = free_slot(control), *c = slot ? malloc(sizeof(*c)) : NULL;
	int ret;

	if (!c) {
		static const char full[] = "{\"ok\":false,\"error\":\"too many connections; close one\"}\n";
		send(fd, full, sizeof(full) - 1, MSG_DONTWAIT | MSG_NOSIGNAL);
		close(fd);
		return -EAGAIN;
	}
	memset(c, 0, offsetof(struct control_client, in));
	c->out_len = c->out_sent = c->out_size = 0;
	c->out = NULL;
	c->skipped = 0;
	c->control = control;
	c->fd = fd;
	c->used = ++control->clock;
	ret = loop_add_fd(control->loop, fd, EPOLLIN, on_client, c);
	if (ret) {
		close(fd);
		free(c);
		return ret;
	}
	*slot = c;
	return 0;
}

static void on_listen(void *arg, uint32_t events)
{
	struct control *control = arg;
	int fd = accept4(control->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	(void)events;
	if (fd >= 0)
		control_add_client(control, fd);
	else if (errno == EMFILE || errno == ENFILE) /* it would be reported for ever: close somebody */
		free_slot(control);
}

/* ---- streams ---- */

void control_stream_begin(struct control_client *c)
{
	c->streaming = true;
	if (c->control && !c->in_turn)
		watch(c);
}

void control_stream_write(struct control_client *c, const uint8_t *bytes, size_t len)
{
	if (c->skipped || !queue(c, (const char *)bytes, len)) {
		c->skipped += len;
		return;
	}
	if (!c->in_turn) {
		send_out(c);
		watch(c);
	}
}

void control_stream_resume(struct control_client *c)
{
	if (!c->streaming || c->in_turn)
		return;
	if (c->in_len)
		give_stream(c);
	watch(c);
}

/* ---- life ---- */

struct control *control_create(int listen_fd, const struct control_ops *ops)
{
	struct control *control = calloc(1, sizeof(*control));

	if (control) {
		control->listen_fd = listen_fd;
		control->ops = ops;
	}
	return control;
}

static void leave_loop(struct control *control)
{
	for (unsigned i = 0; i < CONTROL_CLIENTS_MAX; i++) {
		struct control_client *c = control->clients[i];
		if (!c)
			continue;
		loop_del_fd(control->loop, c->fd);
		if (c->waiting || c->streaming)
			control->ops->gone(control->ctx, c);
		if (c->waiting) {
			c->in_turn = true; /* it goes on in the next loop, if there is one */
			control_fail(c, "the guest has ended");
			c->in_turn = false;
			send_out(c);
		}
	}
	if (control->listen_fd >= 0)
		loop_del_fd(control->loop, control->listen_fd);
	control->loop = NULL;
	control->ctx = NULL;
}

int control_set_loop(struct control *control, struct loop *loop, void *ctx)
{
	int ret = 0;

	if (control->loop)
		leave_loop(control);
	if (!loop)
		return 0;
	control->loop = loop;
	control->ctx = ctx;
	if (control->listen_fd >= 0)
		ret = loop_add_fd(loop, control->listen_fd, EPOLLIN, on_listen, control);
	for (unsigned i = 0; i < CONTROL_CLIENTS_MAX; i++) {
		struct control_client *c = control->clients[i];
		if (!c)
			continue;
		if (loop_add_fd(loop, c->fd, EPOLLIN, on_client, c))
			client_close(c);
		else if (c->streaming)
			control->ops->again(ctx, c), watch(c);
		else
			process(c);
	}
	return ret;
}

#define FLUSH_PATIENCE_MS 500

/* The last words of the guest, to a client that reads. */
static void flush(struct control_client *c)
{
	struct pollfd p = {.fd = c->fd, .events = POLLOUT};

	while (c->out_len && poll(&p, 1, FLUSH_PATIENCE_MS) == 1 && send_out(c))
		;
}

void control_destroy(struct control *control)
{
	if (!control)
		return;
	control_set_loop(control, NULL, NULL);
	for (unsigned i = 0; i < CONTROL_CLIENTS_MAX; i++)
		if (control->clients[i]) {
			flush(control->clients[i]);
			client_close(control->clients[i]);
		}
	free(control);
}

struct control_client *control_local(void (*fn)(void *arg, const json_t *answer), void *arg)
{
	struct control_client *c = malloc(sizeof(*c));

	if (!c)
		return NULL;
	memset(c, 0, offsetof(struct control_client, in));
	c->fd = -1;
	c->local_answer = fn;
	c->local_arg = arg;
	return c;
}

bool control_is_local(const struct control_client *c)
{
	return !c->control;
}

void control_local_free(struct control_client *c)
{
	free(c);
}
