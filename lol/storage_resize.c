/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Another size for an image that qemu-storage-daemon serves. Its NBD export keeps the size that it had at its start, and forbids
 * the image to change: so the export is taken away, the image resized, and a new export made, all over QMP. The listening
 * socket has no name any more; its file is still there as a descriptor, and /proc/self/fd leads to it.
 */
#include "storage.h"

#include "types.h"

#include <errno.h>
#include <jansson.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define GREET_SECONDS 5
#define ANSWER_SECONDS 30 /* a shrinking image gives its clusters back one by one */
#define LINE_MAX_BYTES 65536

static int ms_left(const struct timespec *end)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	int64_t ms = (end->tv_sec - now.tv_sec) * 1000 + (end->tv_nsec - now.tv_nsec) / 1000000;
	return (int)MAX(ms, 0);
}

/* The next object of the server; NULL with errno set. */
static json_t *read_object(int fd, const struct timespec *end)
{
	static char line[LINE_MAX_BYTES];
	size_t len = 0;

	while (len < sizeof(line)) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		int ready = poll(&p, 1, ms_left(end));
		if (ready < 0 && errno == EINTR)
			continue;
		if (ready == 0)
			errno = ETIMEDOUT;
		if (ready <= 0)
			return NULL;
		ssize_t n =
			read(fd, line + len, 1); /* few and short lines: what is behind this one stays in the socket */
		if (n <= 0) {
			errno = n ? errno : EPIPE;
			return NULL;
		}
		if (line[len++] == '\n') {
			json_t *object = json_loadb(line, len, 0, NULL);
			errno = EPROTO;
			return object;
		}
	}
	errno = EPROTO;
	return NULL;
}

static bool is_event(const json_t *object, const char *event)
{
	const char *name = event ? json_string_value(json_object_get(object, "event")) : NULL;

	return name && !strcmp(name, event);
}

/*
 * One command; arguments are taken over. With an event, done is when that has come too: it may come before the answer.
 * -EINVAL: the server refuses, anything else: it does not answer.
 */
static int command(struct storage *s, const char *name, json_t *arguments, const char *event, struct lol_error *err)
{
	unsigned id = ++s->orders;
	json_t *request = json_pack("{s:s, s:o, s:i}", "execute", name, "arguments", arguments, "id", (int)id);
	char *text = request ? json_dumps(request, JSON_COMPACT) : NULL;
	bool answered = false, happened = !event;
	struct timespec end;
	int ret = 0;

	json_decref(request);
	clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_sec += s->greeted ? ANSWER_SECONDS : GREET_SECONDS;
	if (!text)
		return lol_error(err, -ENOMEM, "out of memory");
	if (send(s->qmp, text, strlen(text), MSG_NOSIGNAL) != (ssize_t)strlen(text))
		ret = -EPIPE;
	free(text);
	while (!ret && (!answered || !happened)) {
		json_t *object = read_object(s->qmp, &end);
		bool ours = json_integer_value(json_object_get(object, "id")) == id;
		const json_t *error = ours ? json_object_get(object, "error") : NULL;
		const char *why = json_string_value(json_object_get(error, "desc"));
		if (!object)
			ret = -errno;
		else if (error)
			ret = lol_error(err, -EINVAL, "%s", why ? why : "refused");
		answered |= ours && json_object_get(object, "return");
		happened |= is_event(object, event);
		json_decref(object);
		if (error)
			return ret;
	}
	return ret ? lol_error(err, ret, "its server does not answer: %s", strerror(-ret)) : 0;
}

int storage_greet(struct storage *s, struct lol_error *err)
{
	if (s->greeted)
		return 0;
	int ret = command(s, "qmp_capabilities", json_object(), NULL, err);
	s->greeted = !ret || ret == -EINVAL; /* EINVAL: it has heard an earlier one after all */
	return s->greeted ? 0 : ret;
}

static int add_export(struct storage *s, struct lol_error *err)
{
	return command(s, "block-export-add",
		       json_pack("{s:s, s:s, s:s, s:s, s:b}", "type", "nbd", "id", STORAGE_EXPORT_ID, "node-name",
				 STORAGE_NODE, "name", STORAGE_EXPORT, "writable", 1),
		       NULL, err);
}

static int connect_again(struct storage *s, struct lol_error *err)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};

	snprintf(addr.sun_path, sizeof(addr.sun_path), "/proc/self/fd/%d", s->socket);
	s->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (s->fd >= 0 && connect(s->fd, (struct sockaddr *)&addr, sizeof(addr)) == 0)
		return 0;
	int ret = -errno;
	if (s->fd >= 0)
		close(s->fd);
	s->fd = -1;
	return lol_error(err, ret, "no connection to its server any more: %s", strerror(-ret));
}

/* Whatever came of it, the guest needs its disk, even if somebody has locked the image in between to look at it. */
static int export_again(struct storage *s, struct lol_error *err)
{
	int ret = add_export(s, err);

	for (int i = 0; ret == -EINVAL && i < 20; i++) {
		usleep(100000);
		ret = add_export(s, err);
	}
	return ret;
}

int storage_resize(struct storage *s, uint64_t bytes, struct lol_error *err)
{
	struct lol_error again;
	int ret = command(s, "block-export-del", json_pack("{s:s, s:s}", "id", STORAGE_EXPORT_ID, "mode", "hard"),
			  "BLOCK_EXPORT_DELETED", err);
	int r = ret == -EINVAL ? 0 : ret;

	if (!ret) {
		ret = command(s, "block_resize",
			      json_pack("{s:s, s:I}", "node-name", STORAGE_NODE, "size", (json_int_t)bytes), NULL, err);
		r = export_again(s, &again);
	} else {
		again = *err;
	}
	if (!r)
		r = connect_again(s, &again);
	return r ? lol_error(err, r, "%s", again.text) : ret;
}
