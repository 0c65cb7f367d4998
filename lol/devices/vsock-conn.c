/* SPDX-License-Identifier: BSD-2-Clause */
#include "vsock-conn.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define FIRST_HOST_PORT (1u << 30)
#define CLIENTS_PER_TURN 16

static void conn_event(void *arg, uint32_t events);

static struct vsock_conn *conn_new(struct vsock *v, int fd, enum vsock_state state)
{
	struct vsock_conn *c = v->nconns < VSOCK_CONNS_MAX ? calloc(1, sizeof(*c)) : NULL;

	if (!c || loop_add_fd(v->loop, fd, 0, conn_event, c)) {
		free(c);
		close(fd);
		return NULL;
	}
	c->vsock = v;
	c->fd = fd;
	c->state = state;
	LIST_INSERT_HEAD(&v->conns, c, all);
	v->nconns++;
	return c;
}

static void close_socket(struct vsock_conn *c)
{
	if (c->fd < 0)
		return;
	loop_del_fd(c->vsock->loop, c->fd);
	close(c->fd);
	c->fd = -1;
}

void vsock_free(struct vsock_conn *c)
{
	close_socket(c);
	if (c->queued)
		TAILQ_REMOVE(&c->vsock->queue, c, waiting);
	LIST_REMOVE(c, all);
	c->vsock->nconns--;
	free(c->kept);
	free(c);
}

struct vsock_conn *vsock_find(struct vsock *v, uint32_t guest_port, uint32_t host_port)
{
	struct vsock_conn *c;

	LIST_FOREACH(c, &v->conns, all)
	if (c->state != VSOCK_GREETING && c->guest_port == guest_port && c->host_port == host_port)
		return c;
	return NULL;
}

void vsock_watch(struct vsock_conn *c)
{
	uint32_t events = 0;

	if (c->fd < 0)
		return;
	if (c->state == VSOCK_GREETING)
		events = EPOLLIN;
	else if (c->state == VSOCK_OPEN && !c->readable && !(c->host_shut & VIRTIO_VSOCK_SHUTDOWN_SEND) &&
		 !c->guest_deaf)
		events = EPOLLIN;
	if (c->kept_len)
		events |= EPOLLOUT;
	loop_mod_fd(c->vsock->loop, c->fd, events);
}

/* ---- towards the host ---- */

/* The host's side does not do any more what flags say. */
static void host_shut(struct vsock_conn *c, uint32_t flags)
{
	if (!(flags & ~c->host_shut))
		return;
	c->host_shut |= flags;
	vsock_say(c, VSOCK_DUE_SHUTDOWN);
}

/* Everything of the guest is at the socket: tell it of the end, and close where both ends are done. */
static void drained(struct vsock_conn *c)
{
	if (!c->guest_done || c->kept_len)
		return;
	if (!c->write_ended && c->fd >= 0)
		shutdown(c->fd, SHUT_WR);
	c->write_ended = true;
	if (c->guest_deaf) {
		close_socket(c);
		vsock_say(c, VSOCK_DUE_RESET); /* the guest waits for it when it has closed its socket */
	}
}

static void count_forwarded(struct vsock_conn *c, size_t n)
{
	c->forwarded += (uint32_t)n;
	/* The guest must not run dry while it believes what it was told last. */
	if (c->forwarded - c->told_forwarded >= VSOCK_BUFFER / 4)
		vsock_say(c, VSOCK_DUE_CREDIT);
}

/* Write to the socket; what is written to nobody counts as written. Returns the bytes gone. */
static size_t to_socket(struct vsock_conn *c, const struct iovec *iov, unsigned count, size_t len)
{
	struct msghdr mh = {.msg_iov = (struct iovec *)(uintptr_t)iov, .msg_iovlen = MIN(count, 256u)};
	ssize_t n;

	if (c->fd < 0 || c->host_shut & VIRTIO_VSOCK_SHUTDOWN_RCV)
		return len;
	n = sendmsg(c->fd, &mh, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (n >= 0)
		return (size_t)n;
	if (errno == EAGAIN || errno == EINTR || errno == ENOBUFS)
		return 0;
	host_shut(c, VIRTIO_VSOCK_SHUTDOWN_RCV);
	return len;
}

bool vsock_to_host(struct vsock_conn *c, struct iovec *iov, unsigned count, size_t len)
{
	size_t room = VSOCK_BUFFER - c->kept_len, n = 0;

	if (len > room || c->guest_done || c->state != VSOCK_OPEN)
		return false;
	if (!c->kept_len)
		n = to_socket(c, iov, count, len);
	count_forwarded(c, n);
	if (n < len && !c->kept && !(c->kept = malloc(VSOCK_BUFFER)))
		return false;
	if (n < len) {
		iov_skip(&iov, &count, n);
		if (c->kept_at + c->kept_len + (len - n) > VSOCK_BUFFER) {
			memmove(c->kept, c->kept + c->kept_at, c->kept_len);
			c->kept_at = 0;
		}
		c->kept_len += iov_take(&iov, &count, c->kept + c->kept_at + c->kept_len, len - n);
	}
	vsock_watch(c);
	return true;
}

static void write_kept(struct vsock_conn *c)
{
	while (c->kept_len) {
		struct iovec iov = {c->kept + c->kept_at, c->kept_len};
		size_t n = to_socket(c, &iov, 1, c->kept_len);
		if (!n)
			break;
		c->kept_at += n;
		c->kept_len -= n;
		count_forwarded(c, n);
	}
	if (!c->kept_len) {
		free(c->kept);
		c->kept = NULL;
		c->kept_at = 0;
	}
	drained(c);
}

void vsock_guest_shut(struct vsock_conn *c, uint32_t flags)
{
	if (flags & VIRTIO_VSOCK_SHUTDOWN_RCV && !c->guest_deaf) {
		c->guest_deaf = true;
		if (c->fd >= 0)
			shutdown(c->fd, SHUT_RD);
	}
	c->guest_done |= !!(flags & VIRTIO_VSOCK_SHUTDOWN_SEND);
	drained(c);
	vsock_watch(c);
}

/* ---- from the host ---- */

uint32_t vsock_credit(const struct vsock_conn *c)
{
	uint32_t under_way = c->sent - c->guest_forwarded;
	return under_way < c->guest_alloc ? c->guest_alloc - under_way : 0;
}

ssize_t vsock_from_host(struct vsock_conn *c, struct iovec *iov, unsigned count, size_t room)
{
	struct msghdr mh = {.msg_iov = iov, .msg_iovlen = count};
	size_t all = 0;
	ssize_t n;

	/* Cut the list at room. */
	for (unsigned i = 0; i < count; i++) {
		if (iov[i].iov_len > room - all) {
			iov[i].iov_len = room - all;
			mh.msg_iovlen = i + 1;
			break;
		}
		all += iov[i].iov_len;
	}
	n = recvmsg(c->fd, &mh, MSG_DONTWAIT);
	if (n > 0)
		return n;
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	/* Has it only ended its own sending, or is it gone? */
	struct pollfd p = {.fd = c->fd, .events = POLLOUT};
	bool gone = n < 0 || (poll(&p, 1, 0) > 0 && p.revents & (POLLHUP | POLLERR));
	host_shut(c, VIRTIO_VSOCK_SHUTDOWN_SEND | (gone ? VIRTIO_VSOCK_SHUTDOWN_RCV : 0));
	return -1;
}

/* Take the greeting, which may come in pieces, and nothing of what is behind it. 1: it is whole; 0: not yet; -1: bad. */
static int take_greeting(struct vsock_conn *c)
{
	char *to = c->greeting + c->greeting_len;
	size_t room = VSOCK_GREETING_MAX - c->greeting_len;
	ssize_t n = recv(c->fd, to, room, MSG_PEEK | MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n <= 0)
		return -1;
	const char *newline = memchr(to, '\n', (size_t)n);
	if (newline)
		n = newline + 1 - to;
	if (recv(c->fd, to, (size_t)n, MSG_DONTWAIT) != n)
		return -1;
	c->greeting_len += (unsigned)n;
	c->greeting[c->greeting_len] = 0;
	return newline ? 1 : (size_t)n < room ? 0 : -1;
}

/* "CONNECT P\n" of a client of ours. */
static void greeting(struct vsock_conn *c)
{
	unsigned port;
	char end;
	int whole = take_greeting(c);

	if (!whole)
		return;
	if (whole < 0 || sscanf(c->greeting, "CONNECT %10u%c", &port, &end) != 2 || end != '\n') {
		vsock_free(c);
		return;
	}
	do
		c->host_port = c->vsock->next_port++ | FIRST_HOST_PORT;
	while (vsock_find(c->vsock, port, c->host_port));
	c->guest_port = port;
	c->state = VSOCK_ASKED;
	vsock_watch(c);
	vsock_say(c, VSOCK_DUE_REQUEST);
}

void vsock_accepted(struct vsock_conn *c)
{
	char line[32];
	int len = snprintf(line, sizeof(line), "OK %u\n", c->host_port);

	if (c->state != VSOCK_ASKED)
		return;
	c->state = VSOCK_OPEN;
	if (send(c->fd, line, (size_t)len, MSG_NOSIGNAL | MSG_DONTWAIT) != len)
		host_shut(c, VIRTIO_VSOCK_SHUTDOWN_RCV | VIRTIO_VSOCK_SHUTDOWN_SEND);
	vsock_watch(c);
}

static void conn_event(void *arg, uint32_t events)
{
	struct vsock_conn *c = arg;
	struct vsock *v = c->vsock;

	if (c->state == VSOCK_GREETING) {
		greeting(c);
	} else {
		if (c->kept_len && events & (EPOLLOUT | EPOLLHUP | EPOLLERR))
			write_kept(c);
		if (events & (EPOLLIN | EPOLLHUP | EPOLLERR) && c->fd >= 0) {
			c->readable = true;
			vsock_say(c, 0);
		}
		vsock_watch(c);
	}
	vsock_serve(v);
}

void vsock_client(void *arg, uint32_t events)
{
	struct vsock *v = arg;
	(void)events;

	for (int i = 0; i < CLIENTS_PER_TURN; i++) {
		int fd = accept4(v->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd < 0)
			break;
		struct vsock_conn *c = v->dev->live ? conn_new(v, fd, VSOCK_GREETING) : NULL;
		if (!v->dev->live)
			close(fd); /* nobody is there yet */
		if (c)
			vsock_watch(c);
	}
}

/* ---- the guest connects ---- */

struct vsock_conn *vsock_connect_host(struct vsock *v, uint32_t guest_port, uint32_t host_port)
{
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return NULL;
	int n = snprintf(to.sun_path, sizeof(to.sun_path), "%s_%u", v->address.sun_path, host_port);
	if (n >= (int)sizeof(to.sun_path) || connect(fd, (struct sockaddr *)&to, sizeof(to))) {
		close(fd);
		return NULL;
	}
	struct vsock_conn *c = conn_new(v, fd, VSOCK_OPEN);
	if (!c)
		return NULL;
	c->guest_port = guest_port;
	c->host_port = host_port;
	vsock_watch(c);
	vsock_say(c, VSOCK_DUE_RESPONSE);
	return c;
}
