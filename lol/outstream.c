/* SPDX-License-Identifier: BSD-2-Clause */
#include "outstream.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define QUEUE_BYTES 65536u /* a power of two */
#define PIPE_PIECE 4096u   /* a pipe that polls writable has room for a page */
#define TTY_PIECE 64u
#define PIECES 64u /* in a turn of the loop */

struct outstream {
	struct loop *loop;
	int fd; /* our own: a second opening, or at least a duplicate */
	bool socket;
	unsigned piece; /* bytes per write: bounded where the file is in blocking mode and could hold us up */
	void (*changed)(void *arg);
	void *arg;
	bool refused; /* a write was cut short */
	int error;
	uint32_t head, len; /* queued: bytes[head], len of them, wrapping */
	uint8_t bytes[QUEUE_BYTES];
};

static void writable(void *arg, uint32_t events);

/* Our own descriptor to the file behind fd: one that does not block, or is written in pieces that do not. */
static int open_own(struct outstream *o, int fd)
{
	struct stat st;
	if (fstat(fd, &st))
		return -errno;
	o->socket = S_ISSOCK(st.st_mode);
	o->piece = QUEUE_BYTES;
	bool tty = isatty(fd);
	if ((tty || S_ISFIFO(st.st_mode)) && !(fcntl(fd, F_GETFL) & O_NONBLOCK)) {
		char path[32];
		int master;
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		/* Opening a pty's master once more would make another pair. */
		if (!tty || ioctl(fd, TIOCGPTN, &master))
			o->fd = open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
		if (o->fd >= 0)
			return 0;
		o->piece = tty ? TTY_PIECE : PIPE_PIECE;
	}
	o->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	return o->fd < 0 ? -errno : 0;
}

struct outstream *outstream_create(struct loop *loop, int fd, void (*changed)(void *arg), void *arg)
{
	struct outstream *o = malloc(sizeof(*o));
	if (!o)
		return NULL;
	memset(o, 0, offsetof(struct outstream, bytes));
	o->loop = loop;
	o->fd = -1;
	o->changed = changed;
	o->arg = arg;
	/* A reader that goes away is an error of that stream (EPIPE), not the end of the monitor. */
	signal(SIGPIPE, SIG_IGN);
	int r = open_own(o, fd);
	if (!r) {
		r = loop_add_fd(loop, o->fd, 0, writable, o);
		if (!r)
			return o;
		close(o->fd);
	}
	free(o);
	errno = -r;
	return NULL;
}

void outstream_destroy(struct outstream *o)
{
	if (!o)
		return;
	loop_del_fd(o->loop, o->fd);
	close(o->fd);
	free(o);
}

/* Write as much as goes; returns the bytes, 0 when the file is full or broken. */
static size_t write_some(struct outstream *o, const uint8_t *bytes, size_t len)
{
	for (;;) {
		ssize_t n = o->socket ? send(o->fd, bytes, len, MSG_DONTWAIT | MSG_NOSIGNAL)
				      : write(o->fd, bytes, MIN(len, o->piece));
		if (n >= 0)
			return (size_t)n;
		if (errno == EINTR)
			continue;
		if (errno != EAGAIN)
			o->error = errno;
		return 0;
	}
}

/* Write from the queue once. */
static size_t write_queued(struct outstream *o)
{
	size_t n = write_some(o, o->bytes + o->head, MIN(o->len, QUEUE_BYTES - o->head));
	o->head = (o->head + (uint32_t)n) % QUEUE_BYTES;
	o->len -= (uint32_t)n;
	if (o->error)
		o->len = 0;
	return n;
}

static void writable(void *arg, uint32_t events)
{
	struct outstream *o = arg;
	(void)events; /* an error shows itself when we write */
	struct pollfd p = {.fd = o->fd, .events = POLLOUT};
	unsigned pieces = PIECES;
	do
		write_queued(o);
	while (o->len && o->piece < QUEUE_BYTES && --pieces && poll(&p, 1, 0) == 1);
	if (o->len)
		loop_mod_fd(o->loop, o->fd, EPOLLOUT);
	else
		loop_mod_fd(o->loop, o->fd, 0);
	if (!o->len || (o->refused && o->len <= QUEUE_BYTES / 2)) {
		o->refused = false;
		o->changed(o->arg);
	}
}

size_t outstream_write(struct outstream *o, const void *bytes, size_t len)
{
	const uint8_t *p = bytes;
	size_t done = 0;
	/* Straight to the file only where that cannot block us: after poll, in pieces, is what the queue is for. */
	if (!o->error && !o->len && o->piece == QUEUE_BYTES) {
		size_t n;
		while (done < len && (n = write_some(o, p + done, len - done)))
			done += n;
	}
	if (o->error)
		return len;
	while (done < len && o->len < QUEUE_BYTES) {
		uint32_t at = (o->head + o->len) % QUEUE_BYTES;
		size_t n = MIN(len - done, (size_t)MIN(QUEUE_BYTES - at, QUEUE_BYTES - o->len));
		memcpy(o->bytes + at, p + done, n);
		o->len += (uint32_t)n;
		done += n;
	}
	if (o->len)
		loop_mod_fd(o->loop, o->fd, EPOLLOUT);
	if (done < len)
		o->refused = true;
	return done;
}

bool outstream_empty(const struct outstream *o)
{
	return !o->len;
}

int outstream_error(const struct outstream *o)
{
	return o->error;
}

void outstream_flush_for(struct outstream *o, int ms)
{
	while (o->len && !o->error) {
		struct pollfd p = {.fd = o->fd, .events = POLLOUT};
		int n = poll(&p, 1, ms);
		if (n == 0 || (n < 0 && errno != EINTR))
			return;
		write_queued(o);
	}
	loop_mod_fd(o->loop, o->fd, 0);
}

/* Readable while a signal that ends the VM is pending; it stays so, for who blocked it. -1: none can be. */
static int ending_signals(void)
{
	static const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
	sigset_t set;

	sigemptyset(&set);
	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
		struct sigaction sa;
		if (sigaction(signals[i], NULL, &sa) == 0 && sa.sa_handler != SIG_IGN)
			sigaddset(&set, signals[i]);
	}
	return signalfd(-1, &set, SFD_CLOEXEC);
}

bool outstream_flush(struct outstream *o)
{
	struct pollfd p[] = {{.fd = o->fd, .events = POLLOUT}, {.events = POLLIN}};
	bool asked = false;

	if (!o->len || o->error)
		return true;
	p[1].fd = ending_signals(); /* poll() passes over a negative one */
	while (o->len && !o->error) {
		int n = poll(p, 2, -1);
		if ((n < 0 && errno != EINTR) || (asked = n > 0 && p[1].revents))
			break;
		write_queued(o);
	}
	if (p[1].fd >= 0)
		close(p[1].fd);
	loop_mod_fd(o->loop, o->fd, 0);
	return !asked;
}
