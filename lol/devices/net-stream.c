/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What is sent together. passt of 2023 (Debian 12) reads what is there and loses its place for good when that ends inside of a
 * length, or inside of a frame of which the rest then comes in two pieces. How a read ends is ours to say: the kernel cuts
 * what one call sends into buffers of 32 KiB and some, puts nothing of two calls into one buffer, and a reader finds whole
 * buffers. So a call sends whole frames of GROUP_BYTES at most, which are there at once or not at all; or one larger frame,
 * the second half of which is one buffer, also where it has to be sent later.
 */
#include "net-stream.h"

#include "net-packet.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define LENGTH 4u             /* bytes of a frame's length on the socket */
#define IN_BYTES (256u << 10) /* more than one frame */
#define OUT_BYTES (256u << 10)
#define LENGTH_MAX (4096u + 65536u) /* what QEMU may send; longer ones than NET_FRAME_MAX are dropped */
#define SEARCH_NS 200000000ull      /* between two looks for a peer */
#define RETURN_LOOKS 15u            /* three seconds */
#define CHECK_NS 1000000000ull      /* between two looks whether our socket file is still ours */
#define GROUP_BYTES (32u << 10)     /* see above */
#define DEFAULT_MTU NET_MTU_MAX
#define BIT(n) (UINT64_C(1) << (n))

struct stream {
	struct net_backend b;
	struct loop *loop;
	int listener, peer; /* -1: none */
	int timer;
	dev_t file_dev; /* the socket file that we have made */
	ino_t file_ino;
	unsigned looks; /* for a listener that may come back, before the path is ours to take */
	bool full;      /* the guest has no buffers */
	bool send_wait; /* a frame of the guest waits for room in out */
	size_t in_start, in_end, out_start, out_end;
	size_t out_cut; /* bytes at out_start that are the rest of a frame */
	struct sockaddr_un address;
	uint8_t in[IN_BYTES], out[OUT_BYTES];
};

/* A guest without buffers is to hear of the loss of its peer all the same. */
static uint32_t in_events(const struct stream *s)
{
	return s->full ? EPOLLRDHUP : EPOLLIN;
}

static void watch(struct stream *s)
{
	if (s->peer >= 0)
		loop_mod_fd(s->loop, s->peer, in_events(s) | (s->out_end ? EPOLLOUT : 0));
}

/* ---- finding a peer ---- */

static void peer_event(void *arg, uint32_t events);
static void lose_peer(struct stream *s);

static bool take_peer(struct stream *s, int fd)
{
	if (loop_add_fd(s->loop, fd, in_events(s), peer_event, s)) {
		close(fd);
		return false;
	}
	s->peer = fd;
	s->in_start = s->in_end = s->out_start = s->out_end = s->out_cut = 0;
	loop_mod_timer_ns(s->loop, s->timer, 0, 0);
	if (s->b.dev)
		virtio_net_set_link(s->b.dev, true);
	s->b.down = false;
	return true;
}

static void listener_event(void *arg, uint32_t events)
{
	struct stream *s = arg;
	(void)events;

	int fd = accept4(s->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	/* A third one waits in the backlog until the peer has gone. */
	if (fd >= 0 && take_peer(s, fd))
		loop_mod_fd(s->loop, s->listener, 0);
}

static bool file_is_ours(const struct stream *s)
{
	struct stat st;
	return !lstat(s->address.sun_path, &st) && st.st_dev == s->file_dev && st.st_ino == s->file_ino;
}

static void stop_listening(struct stream *s)
{
	if (s->listener < 0)
		return;
	if (file_is_ours(s))
		unlink(s->address.sun_path);
	loop_del_fd(s->loop, s->listener);
	close(s->listener);
	s->listener = -1;
}

static int socket_new(void)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	return fd < 0 ? -errno : fd;
}

/* 0 or -errno; -EADDRINUSE: somebody else was faster. */
static int listen_there(struct stream *s)
{
	struct stat st;
	int fd = socket_new(), r = 0;

	if (fd < 0)
		return fd;
	fchmod(fd, 0600); /* what bind gives to the file */
	if (bind(fd, (struct sockaddr *)&s->address, sizeof(s->address)) || lstat(s->address.sun_path, &st) ||
	    listen(fd, 1))
		r = -errno;
	if (!r)
		r = loop_add_fd(s->loop, fd, EPOLLIN, listener_event, s);
	if (r) {
		close(fd);
		return r;
	}
	s->listener = fd;
	s->file_dev = st.st_dev;
	s->file_ino = st.st_ino;
	loop_mod_timer_ns(s->loop, s->timer, CHECK_NS, CHECK_NS);
	return 0;
}

/* Nobody listens at the path. Take a dead socket away, but nothing else. 0 or -errno. */
static int clear_path(const struct stream *s)
{
	struct stat st;

	if (lstat(s->address.sun_path, &st))
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISSOCK(st.st_mode))
		return -ENOTSOCK;
	return unlink(s->address.sun_path) && errno != ENOENT ? -errno : 0;
}

/* One attempt to connect, or else to listen. 0: connected or listening; -EAGAIN: try again later; else -errno. */
static int search(struct stream *s)
{
	int fd = socket_new(), r;

	if (fd < 0)
		return fd;
	if (!connect(fd, (struct sockaddr *)&s->address, sizeof(s->address))) {
		s->looks = RETURN_LOOKS;
		return take_peer(s, fd) ? 0 : -EAGAIN;
	}
	r = -errno;
	close(fd);
	if (s->looks) { /* passt would not start on a path on which somebody listens */
		s->looks--;
		return -EAGAIN;
	}
	if (r != -ENOENT && r != -ECONNREFUSED)
		return r; /* -EAGAIN: its backlog is full */
	r = clear_path(s);
	if (!r)
		r = listen_there(s);
	return r == -EADDRINUSE ? -EAGAIN : r;
}

static void search_later(struct stream *s)
{
	loop_mod_timer_ns(s->loop, s->timer, SEARCH_NS, SEARCH_NS);
}

static void timer_event(void *arg)
{
	struct stream *s = arg;

	if (s->peer >= 0)
		return;
	if (s->listener >= 0) {
		if (file_is_ours(s))
			return;
		stop_listening(s);
	}
	if (search(s))
		search_later(s);
}

static void lose_peer(struct stream *s)
{
	loop_del_fd(s->loop, s->peer);
	close(s->peer);
	s->peer = -1;
	s->in_start = s->in_end = s->out_start = s->out_end = s->out_cut = 0;
	virtio_net_set_link(s->b.dev, false);
	if (s->send_wait) { /* to be dropped */
		s->send_wait = false;
		virtio_net_resume(s->b.dev);
	}
	if (s->listener < 0) {
		search_later(s);
		return;
	}
	loop_mod_timer_ns(s->loop, s->timer, CHECK_NS, CHECK_NS);
	loop_mod_fd(s->loop, s->listener, EPOLLIN);
}

/* ---- frames ---- */

/* Give the guest what is whole. False: the peer does not keep to the protocol. */
static bool hand_over(struct stream *s)
{
	while (s->in_end - s->in_start >= LENGTH) {
		uint32_t len;
		memcpy(&len, s->in + s->in_start, LENGTH);
		len = ntohl(len);
		if (len > LENGTH_MAX) {
			device_report(REPORT_WARNING, "network stream %s: the peer sends no frames: disconnected",
				      s->address.sun_path);
			return false;
		}
		if (s->in_end - s->in_start < LENGTH + len)
			break;
		if (!virtio_net_receive(s->b.dev, NULL, s->in + s->in_start + LENGTH, len)) {
			s->full = true;
			break;
		}
		s->in_start += LENGTH + len;
	}
	virtio_net_received(s->b.dev);
	if (s->in_start == s->in_end) {
		s->in_start = s->in_end = 0;
	} else if (s->in_start) {
		memmove(s->in, s->in + s->in_start, s->in_end - s->in_start);
		s->in_end -= s->in_start;
		s->in_start = 0;
	}
	return true;
}

static void receive(struct stream *s)
{
	bool was_full = s->full;
	ssize_t n = 0;

	s->full = false;
	/* What is there already comes first: there may be no room for more. */
	bool ok = hand_over(s);
	if (ok && !s->full) {
		n = recv(s->peer, s->in + s->in_end, sizeof(s->in) - s->in_end, 0);
		if (n > 0) {
			s->in_end += (size_t)n;
			ok = hand_over(s);
		} else if (!n || (errno != EAGAIN && errno != EINTR)) {
			ok = false;
		}
	}
	if (!ok)
		lose_peer(s);
	else if (s->full != was_full)
		watch(s);
}

/* Bytes of the frame at p, with its length. */
static size_t frame_bytes(const uint8_t *p)
{
	uint32_t len;

	memcpy(&len, p, LENGTH);
	return LENGTH + ntohl(len);
}

/* How much is sent next: the rest of a frame, a large frame, or several small ones. */
static size_t next_group(const struct stream *s)
{
	const uint8_t *p = s->out + s->out_start;
	size_t n = s->out_cut, left = s->out_end - s->out_start;

	if (n)
		return n;
	do
		n += frame_bytes(p + n);
	while (n < left && n + frame_bytes(p + n) <= GROUP_BYTES);
	return n;
}

/* n bytes at out_start are with the peer. */
static void sent(struct stream *s, size_t n)
{
	size_t cut = s->out_cut;

	while (cut < n)
		cut += frame_bytes(s->out + s->out_start + cut);
	s->out_start += n;
	s->out_cut = cut - n;
}

/* Send what is gathered, as far as the peer takes it. False: there is no peer any more. */
static bool push_out(struct stream *s)
{
	while (s->out_start < s->out_end) {
		ssize_t n = send(s->peer, s->out + s->out_start, next_group(s), MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno != EAGAIN) {
			lose_peer(s);
			return false;
		}
		if (n < 0)
			break;
		sent(s, (size_t)n);
	}
	if (s->out_start == s->out_end)
		s->out_start = s->out_end = 0;
	watch(s);
	/* Whoever emptied the buffer: there will be no EPOLLOUT for the frame that waits. */
	if (s->send_wait && !s->out_end) {
		s->send_wait = false;
		virtio_net_resume(s->b.dev);
	}
	return true;
}

static void peer_event(void *arg, uint32_t events)
{
	struct stream *s = arg;

	if (events & EPOLLOUT && !push_out(s))
		return;
	if (s->full && events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		lose_peer(s);
	else if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
		receive(s);
}

static bool stream_send(struct net_backend *b, const struct virtio_net_hdr_v1 *hdr, struct iovec *iov, unsigned count,
			size_t len)
{
	struct stream *s = (struct stream *)b;
	uint32_t length = htonl((uint32_t)len);

	if (s->peer < 0)
		return true; /* no carrier */
	if (s->out_end + LENGTH + len > sizeof(s->out)) {
		if (!push_out(s))
			return true;
		memmove(s->out, s->out + s->out_start, s->out_end - s->out_start);
		s->out_end -= s->out_start;
		s->out_start = 0;
		if (s->out_end + LENGTH + len > sizeof(s->out)) {
			s->send_wait = true;
			return false;
		}
	}
	uint8_t *to = s->out + s->out_end, *frame = to + LENGTH;
	memcpy(to, &length, LENGTH);
	for (unsigned i = 0; i < count; i++) {
		memcpy(to + LENGTH, iov[i].iov_base, iov[i].iov_len);
		to += iov[i].iov_len;
	}
	if (hdr->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM)
		net_finish_checksum(frame, len, hdr->csum_start, hdr->csum_offset);
	s->out_end += LENGTH + len;
	return true;
}

static void stream_flush(struct net_backend *b)
{
	struct stream *s = (struct stream *)b;

	if (s->peer >= 0 && s->out_end)
		push_out(s);
}

static void stream_rx_ready(struct net_backend *b)
{
	struct stream *s = (struct stream *)b;

	if (s->peer >= 0)
		receive(s);
	else
		s->full = false;
}

static void stream_destroy(struct net_backend *b)
{
	struct stream *s = (struct stream *)b;

	if (s->peer >= 0) {
		loop_del_fd(s->loop, s->peer);
		close(s->peer);
	}
	stop_listening(s);
	if (s->timer >= 0)
		loop_del_timer(s->loop, s->timer);
	free(s);
}

static const struct net_backend_ops stream_ops = {
	.send = stream_send, .flush = stream_flush, .rx_ready = stream_rx_ready, .destroy = stream_destroy};

static void say_why(int error, const char *path, char err[DEVICE_ERR])
{
	if (error == ENOTSOCK)
		device_error(err, "network stream %s: this file is not a socket; remove it or give another path", path);
	else if (error == EPROTOTYPE)
		device_error(err, "network stream %s: another kind of socket listens there; give another path", path);
	else
		device_error(err, "network stream %s: %s; give a path in a directory that you can write to", path,
			     strerror(error));
}

struct net_backend *net_stream_open(struct loop *loop, const char *path, char err[DEVICE_ERR])
{
	struct stream *s = calloc(1, sizeof(*s));

	if (!s) {
		device_error(err, "network stream: out of memory; close something");
		return NULL;
	}
	*s = (struct stream){.loop = loop, .listener = -1, .peer = -1, .full = true};
	s->address.sun_family = AF_UNIX;
	if (strlen(path) >= sizeof(s->address.sun_path)) {
		say_why(ENAMETOOLONG, path, err);
		free(s);
		return NULL;
	}
	strcpy(s->address.sun_path, path);
	s->b = (struct net_backend){
		.ops = &stream_ops, .features = BIT(VIRTIO_NET_F_CSUM), .mtu = DEFAULT_MTU, .down = true};
	s->timer = loop_add_timer_ns(loop, 0, 0, timer_event, s);
	int r = s->timer < 0 ? s->timer : search(s);
	if (r == -EAGAIN) {
		search_later(s);
	} else if (r) {
		say_why(-r, path, err);
		stream_destroy(&s->b);
		return NULL;
	}
	return &s->b;
}
