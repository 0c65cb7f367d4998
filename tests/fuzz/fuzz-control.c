// SPDX-License-Identifier: BSD-2-Clause
/*
 * Bytes to the control socket: the input is cut into pieces, each goes to one of two clients, or makes something happen
 * (an answer, room, a client that leaves). Whatever comes, the server stays in its bounds and answers in JSON.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "control.h"
#include "control_words.h"

static struct control_client *later, *stream;
static bool takes;

static void request(void *ctx, struct control_client *c, const char *what, const json_t *args)
{
	(void)ctx;
	switch (what[0]) {
	case 'l':
		if (!later) {
			later = c;
			return;
		}
		break;
	case 's':
		if (!stream) {
			control_stream_begin(c);
			control_answer(c, NULL);
			control_stream_write(c, (const uint8_t *)what, strlen(what));
			stream = c;
			return;
		}
		break;
	case 'e':
		control_answer(c, json_pack("{s:O}", "args", (json_t *)args));
		return;
	}
	control_fail(c, "%s: no", what);
}

static size_t stream_bytes(void *ctx, struct control_client *c, const uint8_t *bytes, size_t len)
{
	(void)ctx;
	control_stream_write(c, bytes, len);
	return takes ? len : len / 2;
}

static void gone(void *ctx, struct control_client *c)
{
	(void)ctx;
	if (later == c)
		later = NULL;
	if (stream == c)
		stream = NULL;
}

static void again(void *ctx, struct control_client *c)
{
	(void)ctx;
	stream = c;
}

static int client(struct control *control)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair))
		abort();
	control_add_client(control, pair[0]);
	return pair[1];
}

static void read_some(int fd)
{
	char text[4096];

	while (recv(fd, text, sizeof(text), 0) > 0)
		;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct control_ops ops = {request, stream_bytes, gone, again};
	struct loop *loop = loop_create();
	struct control *control = control_create(-1, &ops);
	int ctx, fds[2];

	later = stream = NULL;
	control_set_loop(control, loop, &ctx);
	for (int i = 0; i < 2; i++)
		fds[i] = client(control);
	while (size >= 2) {
		uint8_t what = data[0], len = data[1];
		data += 2;
		size -= 2;
		len = (uint8_t)(len < size ? len : size);
		int *fd = &fds[what & 1];
		takes = what & 2;
		switch (what >> 2 & 7) {
		default:
			send(*fd, data, len, MSG_NOSIGNAL);
			data += len;
			size -= len;
			break;
		case 3: /* long lines */
			for (unsigned i = 0; i < 256; i++)
				if (len)
					send(*fd, data, len, MSG_NOSIGNAL);
			break;
		case 4:
			if (later) {
				struct control_client *c = later;
				later = NULL;
				control_answer(c, NULL);
			}
			break;
		case 5:
			if (stream)
				control_stream_resume(stream);
			break;
		case 6:
			close(*fd);
			*fd = client(control);
			break;
		case 7:
			control_set_loop(control, NULL, NULL);
			control_set_loop(control, loop, &ctx);
			break;
		}
		loop_turn(loop, 0);
		loop_turn(loop, 0);
		if (!(what & 32))
			read_some(*fd);
	}
	for (int i = 0; i < 2; i++)
		close(fds[i]);
	control_destroy(control);
	loop_destroy(loop);

	/* The control prompt's words, and answers as text. */
	json_t *value = json_loadb((const char *)data, size, 0, NULL);
	if (json_is_object(value))
		free(control_text("status", value));
	json_decref(value);
	return 0;
}
