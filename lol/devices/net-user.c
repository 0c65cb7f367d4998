/* SPDX-License-Identifier: BSD-2-Clause */
#include "net-user.h"

#include "net-packet.h"

#include <arpa/inet.h>
#include <errno.h>
#include <slirp/libslirp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "clock.h"

#define BACKLOG_FRAMES 512u /* for a guest that has no buffers; more are lost */
#define BACKLOG_STOP 64u    /* from here on libslirp is not asked for more */
#define BACKLOG_BYTES (8u << 20)
#define BIT(n) (UINT64_C(1) << (n))
/*
 * libslirp's TCP window has 64 KiB and does not scale: three segments of this size are under way, where one as large as the
 * window would be waited for each time, and usual ones cost the guest more CPU time for each byte.
 */
#define DEFAULT_MTU 21880
#define MS 1000000ull

/* A descriptor that libslirp waits for, found by its number. */
struct watched {
	uint32_t want, have; /* events: of libslirp's last word, and what the loop has been told */
	uint32_t got;
	unsigned round; /* the number of the word in which it was named last */
	bool known;     /* to the loop */
	int fd;
	struct user *user;
};

struct queued {
	STAILQ_ENTRY(queued) next;
	size_t len;
	uint8_t frame[];
};

struct slirp_timer {
	int id;
	SlirpTimerCb cb;
	void *arg;
	struct user *user;
};

struct user {
	struct net_backend b;
	struct loop *loop;
	Slirp *slirp;
	int timer;     /* libslirp's own clock, while it has connections */
	bool changed;  /* something has happened to libslirp since it was asked last */
	bool poll_due; /* it has events, or its clock has run out */
	bool ended;
	unsigned round;
	struct watched **watched; /* by descriptor */
	int nwatched;
	STAILQ_HEAD(, queued) backlog;
	unsigned backlog_frames;
	size_t backlog_bytes;
	uint8_t frame[NET_FRAME_MAX];
};

/* ---- frames for the guest ---- */

static bool to_guest(struct user *u, const void *frame, size_t len)
{
	/* libslirp has made the checksums itself. */
	static const struct virtio_net_hdr_v1 verified = {.flags = VIRTIO_NET_HDR_F_DATA_VALID};
	return virtio_net_receive(u->b.dev, &verified, frame, len);
}

static void forget_backlog(struct user *u)
{
	struct queued *q;

	while ((q = STAILQ_FIRST(&u->backlog))) {
		STAILQ_REMOVE_HEAD(&u->backlog, next);
		free(q);
	}
	u->backlog_frames = 0;
	u->backlog_bytes = 0;
}

static ssize_t cb_send_packet(const void *buf, size_t len, void *opaque)
{
	struct user *u = opaque;
	struct queued *q;

	if (!u->b.dev || (STAILQ_EMPTY(&u->backlog) && to_guest(u, buf, len)))
		return (ssize_t)len;
	if (u->backlog_frames >= BACKLOG_FRAMES || u->backlog_bytes + len > BACKLOG_BYTES ||
	    !(q = malloc(sizeof(*q) + len)))
		return (ssize_t)len; /* lost, as on any network */
	q->len = len;
	memcpy(q->frame, buf, len);
	STAILQ_INSERT_TAIL(&u->backlog, q, next);
	u->backlog_frames++;
	u->backlog_bytes += len;
	return (ssize_t)len;
}

static void user_rx_ready(struct net_backend *b)
{
	struct user *u = (struct user *)b;
	struct queued *q;

	while ((q = STAILQ_FIRST(&u->backlog)) && to_guest(u, q->frame, q->len)) {
		STAILQ_REMOVE_HEAD(&u->backlog, next);
		u->backlog_frames--;
		u->backlog_bytes -= q->len;
		free(q);
	}
	virtio_net_received(b->dev);
	u->changed = true;
}

/* ---- frames of the guest ---- */

static bool user_send(struct net_backend *b, const struct virtio_net_hdr_v1 *hdr, struct iovec *iov, unsigned count,
		      size_t len)
{
	struct user *u = (struct user *)b;
	size_t n = 0;

	for (unsigned i = 0; i < count; i++) {
		memcpy(u->frame + n, iov[i].iov_base, iov[i].iov_len);
		n += iov[i].iov_len;
	}
	if (hdr->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM)
		net_finish_checksum(u->frame, len, hdr->csum_start, hdr->csum_offset);
	/* A segment of up to 64 KiB is as good to libslirp as several: it takes TCP apart anyway. */
	slirp_input(u->slirp, u->frame, (int)len);
	u->changed = true;
	return true;
}

static void user_flush(struct net_backend *b)
{
	virtio_net_received(b->dev); /* its answers */
}

/* ---- libslirp's view of the loop ---- */

static void cb_guest_error(const char *msg, void *opaque)
{
	(void)opaque;
	device_report(REPORT_VERBOSE, "network: %s", msg);
}

static int64_t cb_clock_get_ns(void *opaque)
{
	(void)opaque;
	return (int64_t)clock_ns(CLOCK_MONOTONIC);
}

static void timer_over(void *arg)
{
	struct slirp_timer *t = arg;
	t->user->changed = true;
	t->cb(t->arg);
}

static void *cb_timer_new(SlirpTimerCb cb, void *cb_opaque, void *opaque)
{
	struct user *u = opaque;
	struct slirp_timer *t = calloc(1, sizeof(*t));

	if (!t)
		return NULL;
	*t = (struct slirp_timer){.cb = cb, .arg = cb_opaque, .user = u};
	t->id = loop_add_timer_ns(u->loop, 0, 0, timer_over, t);
	return t;
}

static void cb_timer_free(void *timer, void *opaque)
{
	struct user *u = opaque;
	struct slirp_timer *t = timer;

	if (t && t->id >= 0)
		loop_del_timer(u->loop, t->id);
	free(t);
}

static void cb_timer_mod(void *timer, int64_t expire_ms, void *opaque)
{
	struct user *u = opaque;
	struct slirp_timer *t = timer;
	int64_t now = cb_clock_get_ns(u), then = expire_ms * (int64_t)MS;

	if (t && t->id >= 0)
		loop_mod_timer_ns(u->loop, t->id, then > now ? (uint64_t)(then - now) : 1, 0);
}

static void cb_register_poll_fd(int fd, void *opaque)
{
	(void)fd;
	(void)opaque;
}

static void unwatch(struct user *u, struct watched *w)
{
	loop_del_fd(u->loop, w->fd);
	u->watched[w->fd] = NULL;
	free(w);
}

static void cb_unregister_poll_fd(int fd, void *opaque)
{
	struct user *u = opaque;

	u->changed = true;
	if (fd >= 0 && fd < u->nwatched && u->watched[fd])
		unwatch(u, u->watched[fd]);
}

static void cb_notify(void *opaque)
{
	((struct user *)opaque)->changed = true;
}

static void socket_event(void *arg, uint32_t events)
{
	struct watched *w = arg;
	w->got |= events;
	w->user->poll_due = true;
}

static struct watched *watched_of(struct user *u, int fd)
{
	if (fd >= u->nwatched) {
		int n = fd + 32;
		struct watched **all = realloc(u->watched, (size_t)n * sizeof(*all));
		if (!all)
			return NULL;
		memset(all + u->nwatched, 0, (size_t)(n - u->nwatched) * sizeof(*all));
		u->watched = all;
		u->nwatched = n;
	}
	if (!u->watched[fd] && (u->watched[fd] = calloc(1, sizeof(struct watched))))
		*u->watched[fd] = (struct watched){.fd = fd, .user = u};
	return u->watched[fd];
}

/* The index that libslirp gets for a descriptor is the descriptor. */
static int add_poll(int fd, int events, void *opaque)
{
	struct user *u = opaque;
	struct watched *w = watched_of(u, fd);

	if (!w)
		return -1;
	if (w->round != u->round)
		w->want = 0;
	w->round = u->round;
	w->want |= (events & SLIRP_POLL_IN ? EPOLLIN : 0u) | (events & SLIRP_POLL_OUT ? EPOLLOUT : 0u) |
		   (events & SLIRP_POLL_PRI ? EPOLLPRI : 0u);
	return fd;
}

static int get_revents(int idx, void *opaque)
{
	struct user *u = opaque;
	struct watched *w = idx >= 0 && idx < u->nwatched ? u->watched[idx] : NULL;

	if (!w)
		return 0;
	return (w->got & EPOLLIN ? SLIRP_POLL_IN : 0) | (w->got & EPOLLOUT ? SLIRP_POLL_OUT : 0) |
	       (w->got & EPOLLPRI ? SLIRP_POLL_PRI : 0) | (w->got & EPOLLERR ? SLIRP_POLL_ERR : 0) |
	       (w->got & EPOLLHUP ? SLIRP_POLL_HUP : 0);
}

static void tell_loop(struct user *u)
{
	for (int fd = 0; fd < u->nwatched; fd++) {
		struct watched *w = u->watched[fd];
		if (!w)
			continue;
		if (w->round != u->round) {
			unwatch(u, w);
			continue;
		}
		if (!w->known)
			w->known = !loop_add_fd(u->loop, fd, w->want, socket_event, w);
		else if (w->want != w->have)
			loop_mod_fd(u->loop, fd, w->want);
		w->have = w->want;
		w->got = 0;
	}
}

static void clock_over(void *arg)
{
	((struct user *)arg)->poll_due = true;
}

/* Before the loop waits: let libslirp serve its sockets, then ask for what it wants to wait for. */
static void prepare(void *arg)
{
	struct user *u = arg;
	uint32_t timeout_ms = UINT32_MAX;
	bool stalled = u->backlog_frames >= BACKLOG_STOP;

	if (u->poll_due && !stalled) {
		u->poll_due = false;
		u->changed = true;
		slirp_pollfds_poll(u->slirp, 0, get_revents, u);
		virtio_net_received(u->b.dev);
		stalled = u->backlog_frames >= BACKLOG_STOP;
	}
	if (!u->changed && !u->poll_due)
		return;
	u->changed = false;
	u->round++;
	if (!stalled)
		slirp_pollfds_fill(u->slirp, &timeout_ms, add_poll, u);
	tell_loop(u);
	loop_mod_timer_ns(u->loop, u->timer, timeout_ms == UINT32_MAX ? 0 : MAX(timeout_ms, 1u) * MS, 0);
}

/* ---- life ---- */

static void user_agreed(struct net_backend *b, uint64_t features)
{
	if (!features)
		forget_backlog((struct user *)b);
}

static void user_destroy(struct net_backend *b)
{
	struct user *u = (struct user *)b;

	loop_del_prepare(u->loop, prepare, u);
	if (u->slirp)
		slirp_cleanup(u->slirp);
	for (int fd = 0; fd < u->nwatched; fd++)
		if (u->watched[fd])
			unwatch(u, u->watched[fd]);
	free(u->watched);
	if (u->timer >= 0)
		loop_del_timer(u->loop, u->timer);
	forget_backlog(u);
	free(u);
}

static const struct net_backend_ops user_ops = {.send = user_send,
						.flush = user_flush,
						.rx_ready = user_rx_ready,
						.agreed = user_agreed,
						.destroy = user_destroy};

static const SlirpCb callbacks = {
	.send_packet = cb_send_packet,
	.guest_error = cb_guest_error,
	.clock_get_ns = cb_clock_get_ns,
	.timer_new = cb_timer_new,
	.timer_free = cb_timer_free,
	.timer_mod = cb_timer_mod,
	.register_poll_fd = cb_register_poll_fd,
	.unregister_poll_fd = cb_unregister_poll_fd,
	.notify = cb_notify,
};

static struct in_addr ipv4(const char *text)
{
	struct in_addr a = {0};
	inet_pton(AF_INET, text, &a);
	return a;
}

static Slirp *start(struct user *u, uint16_t mtu)
{
	SlirpConfig c = {
		.version = 1,
		.in_enabled = true,
		.vnetwork = ipv4("10.0.2.0"),
		.vnetmask = ipv4("255.255.255.0"),
		.vhost = ipv4("10.0.2.2"),
		.vdhcp_start = ipv4("10.0.2.15"),
		.vnameserver = ipv4("10.0.2.3"),
		.in6_enabled = true,
		.vprefix_len = 64,
		.vhostname = "lol",
		.if_mtu = mtu,
		.if_mru = mtu,
	};

	inet_pton(AF_INET6, "fec0::", &c.vprefix_addr6);
	inet_pton(AF_INET6, "fec0::2", &c.vhost6);
	inet_pton(AF_INET6, "fec0::3", &c.vnameserver6);
	return slirp_new(&c, &callbacks, u);
}

/* 0 or -1 with err. */
static int forward(struct user *u, const struct net_forward *f, char err[DEVICE_ERR])
{
	struct in_addr host = f->host_addr ? ipv4(f->host_addr) : (struct in_addr){0}, guest = {0};

	errno = 0;
	if (slirp_add_hostfwd(u->slirp, f->udp, host, f->host_port, guest, f->guest_port) >= 0)
		return 0;
	int e = errno ? errno : EADDRINUSE;
	const char *hint = e == EADDRINUSE ? "choose another port, or end what listens there"
			   : e == EACCES   ? "ports below 1024 are root's; choose a higher one"
					   : "choose an address of this host and a free port";
	device_error(err, "hostfwd=%s:%s:%u: %s; %s", f->udp ? "udp" : "tcp", f->host_addr ? f->host_addr : "",
		     f->host_port, strerror(e), hint);
	return -1;
}

struct net_backend *net_user_open(struct loop *loop, uint16_t mtu, const struct net_forward *forwards, unsigned count,
				  char err[DEVICE_ERR])
{
	struct user *u = calloc(1, sizeof(*u));

	if (!u) {
		device_error(err, "user network: out of memory; close something");
		return NULL;
	}
	u->b = (struct net_backend){.ops = &user_ops,
				    .features = BIT(VIRTIO_NET_F_CSUM) | BIT(VIRTIO_NET_F_GUEST_CSUM) |
						BIT(VIRTIO_NET_F_HOST_TSO4) | BIT(VIRTIO_NET_F_HOST_TSO6),
				    .mtu = mtu ? mtu : DEFAULT_MTU};
	u->loop = loop;
	u->changed = true;
	STAILQ_INIT(&u->backlog);
	u->timer = loop_add_timer_ns(loop, 0, 0, clock_over, u);
	u->slirp = u->timer >= 0 ? start(u, u->b.mtu) : NULL;
	if (!u->slirp || loop_add_prepare(loop, prepare, u)) {
		device_error(err, "user network: libslirp does not start; close some files or programs");
		user_destroy(&u->b);
		return NULL;
	}
	for (unsigned i = 0; i < count; i++)
		if (forward(u, &forwards[i], err)) {
			user_destroy(&u->b);
			return NULL;
		}
	return &u->b;
}
