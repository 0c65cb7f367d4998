/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The packets of virtio-vsock (virtio 1.2, 5.10.6). Queues: 0 to the guest, 1 from the guest, 2 events. A packet is a header
 * of 44 bytes and its payload.
 */
#include "virtio-vsock.h"

#include "vsock-conn.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define QUEUE_SIZE 256u
#define TURN_BYTES (1u << 20)    /* in each direction, in one turn of the loop */
#define PACKET_BYTES (64u << 10) /* of payload */

enum { RX, TX, EVENTS, QUEUES };

/* ---- to the guest ---- */

void vsock_say(struct vsock_conn *c, unsigned due)
{
	c->due |= due;
	if (c->queued)
		return;
	c->queued = true;
	TAILQ_INSERT_TAIL(&c->vsock->queue, c, waiting);
}

static struct virtio_vsock_hdr header_to(const struct vsock *v, uint32_t guest_port, uint32_t host_port, uint16_t op)
{
	return (struct virtio_vsock_hdr){.src_cid = VSOCK_HOST_CID,
					 .dst_cid = v->config.guest_cid,
					 .src_port = host_port,
					 .dst_port = guest_port,
					 .type = VIRTIO_VSOCK_TYPE_STREAM,
					 .op = op};
}

static struct virtio_vsock_hdr header_for(struct vsock_conn *c, uint16_t op)
{
	struct virtio_vsock_hdr h = header_to(c->vsock, c->guest_port, c->host_port, op);

	h.buf_alloc = VSOCK_BUFFER;
	h.fwd_cnt = c->told_forwarded = c->forwarded;
	c->due &= ~(unsigned)VSOCK_DUE_CREDIT; /* every packet carries it */
	return h;
}

/* The next receive buffer; false: there is none. */
static bool next_buffer(struct vsock *v, struct virtq_chain *chain)
{
	if (!virtq_pop(&v->dev->vq[RX], chain, v->iov, QUEUE_SIZE))
		return false;
	if (chain->in_len >= sizeof(struct virtio_vsock_hdr))
		return true;
	virtio_broken(v->dev, "a receive buffer of %llu bytes", (unsigned long long)chain->in_len);
	return false;
}

static bool send_header(struct vsock *v, const struct virtio_vsock_hdr *h)
{
	struct virtq_chain chain;

	if (!next_buffer(v, &chain))
		return false;
	virtq_push(&v->dev->vq[RX], chain.head, (uint32_t)iov_put(&chain.in, &chain.in_count, h, sizeof(*h)));
	return true;
}

/* Say one of the things that are due. False: no buffer. */
static bool say_one(struct vsock_conn *c)
{
	static const uint16_t ops[] = {VIRTIO_VSOCK_OP_REQUEST,       VIRTIO_VSOCK_OP_RESPONSE,
				       VIRTIO_VSOCK_OP_CREDIT_UPDATE, VIRTIO_VSOCK_OP_CREDIT_REQUEST,
				       VIRTIO_VSOCK_OP_SHUTDOWN,      VIRTIO_VSOCK_OP_RST};
	unsigned what = c->due & VSOCK_DUE_RESET ? VSOCK_DUE_RESET : c->due & -c->due; /* a reset makes the rest idle */
	struct virtio_vsock_hdr h = header_for(c, ops[__builtin_ctz(what)]);

	h.flags = what == VSOCK_DUE_SHUTDOWN ? c->host_shut : 0;
	if (!send_header(c->vsock, &h)) {
		c->due |= what;
		return false;
	}
	c->due &= ~what;
	return true;
}

/* The socket's bytes as one packet. False: there is no buffer for it. *bytes: how many. */
static bool send_data(struct vsock_conn *c, size_t *bytes)
{
	struct vsock *v = c->vsock;
	struct virtio_vsock_hdr h;
	struct virtq_chain chain;
	struct iovec first[sizeof(h)];
	size_t room = MIN(vsock_credit(c), PACKET_BYTES);

	*bytes = 0;
	if (!next_buffer(v, &chain))
		return false;
	/* The header is known when the number of bytes is: keep where it goes. No piece is empty. */
	unsigned nfirst = MIN(chain.in_count, (unsigned)ARRAY_LEN(first));
	struct iovec *to = first;
	memcpy(first, chain.in, nfirst * sizeof(first[0]));
	iov_skip(&chain.in, &chain.in_count, sizeof(h));
	room = MIN(room, (size_t)chain.in_len - sizeof(h));
	ssize_t n = room ? vsock_from_host(c, chain.in, chain.in_count, room) : 0;
	if (n <= 0) {
		c->readable = false;
		virtq_unpop(&v->dev->vq[RX], 1);
		return true;
	}
	h = header_for(c, VIRTIO_VSOCK_OP_RW);
	h.len = (uint32_t)n;
	c->sent += (uint32_t)n;
	iov_put(&to, &nfirst, &h, sizeof(h));
	virtq_push(&v->dev->vq[RX], chain.head, (uint32_t)(sizeof(h) + (size_t)n));
	*bytes = (size_t)n;
	return true;
}

static bool wants_to_send(const struct vsock_conn *c)
{
	return c->readable && c->fd >= 0 && c->state == VSOCK_OPEN && !c->guest_deaf &&
	       !(c->host_shut & VIRTIO_VSOCK_SHUTDOWN_SEND) && !(c->due & VSOCK_DUE_RESET);
}

/* Serve one connection: all that is due but the end, then one packet of data, then the end. False: no buffer. */
static bool serve_conn(struct vsock_conn *c, size_t *bytes)
{
	const unsigned ends = VSOCK_DUE_SHUTDOWN | VSOCK_DUE_RESET;
	size_t n;

	while (c->due & ~ends && !(c->due & VSOCK_DUE_RESET))
		if (!say_one(c))
			return false;
	if (wants_to_send(c) && vsock_credit(c)) {
		if (!send_data(c, &n))
			return false;
		*bytes += n;
	} else if (wants_to_send(c) && !c->asked) {
		c->asked = true;
		c->due |= VSOCK_DUE_ASK_CREDIT;
	}
	while (c->due)
		if (!say_one(c))
			return false;
	return true;
}

/* Nothing will come of a connection any more: the host's side has gone, and the guest has been told. */
static bool is_over(const struct vsock_conn *c, bool reset)
{
	return reset || (c->fd < 0 && c->host_shut == (VIRTIO_VSOCK_SHUTDOWN_RCV | VIRTIO_VSOCK_SHUTDOWN_SEND) &&
			 c->guest_done && c->guest_deaf);
}

static bool serve_strays(struct vsock *v)
{
	for (; v->nstrays; v->nstrays--) {
		const struct vsock_stray *s = &v->strays[v->nstrays - 1];
		struct virtio_vsock_hdr h = header_to(v, s->guest_port, s->host_port, VIRTIO_VSOCK_OP_RST);
		h.type = s->type;
		if (!send_header(v, &h))
			return false;
	}
	return true;
}

void vsock_serve(struct vsock *v)
{
	struct vsock_conn *c;
	size_t bytes = 0;

	if (!v->dev->live || !v->dev->vq[RX].ready)
		return;
	bool room = serve_strays(v);
	while (room && (c = TAILQ_FIRST(&v->queue))) {
		if (bytes >= TURN_BYTES) {
			virtio_defer(v->dev, RX);
			break;
		}
		bool reset = c->due & VSOCK_DUE_RESET;
		room = serve_conn(c, &bytes);
		if (!room)
			break;
		TAILQ_REMOVE(&v->queue, c, waiting);
		c->queued = false;
		if (is_over(c, reset)) {
			vsock_free(c);
			continue;
		}
		if (wants_to_send(c) && (vsock_credit(c) || !c->asked))
			vsock_say(c, 0); /* there is more: behind the others */
		else
			vsock_watch(c);
	}
	virtq_signal(&v->dev->vq[RX]);
}

/* ---- from the guest ---- */

static void refuse(struct vsock *v, const struct virtio_vsock_hdr *h)
{
	if (h->op == VIRTIO_VSOCK_OP_RST || v->nstrays == ARRAY_LEN(v->strays))
		return;
	v->strays[v->nstrays++] = (struct vsock_stray){h->src_port, h->dst_port, h->type};
}

static void reset_conn(struct vsock_conn *c)
{
	vsock_say(c, VSOCK_DUE_RESET);
	c->guest_deaf = c->guest_done = true;
}

static void take_credit(struct vsock_conn *c, const struct virtio_vsock_hdr *h)
{
	c->guest_alloc = h->buf_alloc;
	c->guest_forwarded = h->fwd_cnt;
	if (vsock_credit(c))
		c->asked = false;
	if (c->readable)
		vsock_say(c, 0);
}

static void take_packet(struct vsock *v, const struct virtio_vsock_hdr *h, struct virtq_chain *chain, uint64_t payload)
{
	struct vsock_conn *c;

	if (h->src_cid != v->config.guest_cid || h->dst_cid != VSOCK_HOST_CID || h->type != VIRTIO_VSOCK_TYPE_STREAM) {
		refuse(v, h);
		return;
	}
	c = vsock_find(v, h->src_port, h->dst_port);
	if (h->op == VIRTIO_VSOCK_OP_REQUEST && !c) {
		c = vsock_connect_host(v, h->src_port, h->dst_port);
		if (!c) {
			refuse(v, h);
			return;
		}
		take_credit(c, h);
		return;
	}
	if (!c) {
		refuse(v, h);
		return;
	}
	take_credit(c, h);
	switch (h->op) {
	case VIRTIO_VSOCK_OP_RESPONSE:
		vsock_accepted(c);
		break;
	case VIRTIO_VSOCK_OP_RST:
		vsock_free(c);
		break;
	case VIRTIO_VSOCK_OP_SHUTDOWN:
		vsock_guest_shut(c, h->flags);
		break;
	case VIRTIO_VSOCK_OP_RW:
		if (h->len > payload || !vsock_to_host(c, chain->out, chain->out_count, h->len))
			reset_conn(c);
		break;
	case VIRTIO_VSOCK_OP_CREDIT_REQUEST:
		vsock_say(c, VSOCK_DUE_CREDIT);
		break;
	case VIRTIO_VSOCK_OP_CREDIT_UPDATE:
		break;
	default:
		reset_conn(c);
	}
}

/* The payload may be shorter than its buffers. */
static void cut(struct virtq_chain *chain, size_t len)
{
	for (unsigned i = 0; i < chain->out_count; i++) {
		if (chain->out[i].iov_len >= len) {
			chain->out[i].iov_len = len;
			chain->out_count = len ? i + 1 : i;
			return;
		}
		len -= chain->out[i].iov_len;
	}
}

static void serve_tx(struct vsock *v)
{
	struct virtq *vq = &v->dev->vq[TX];
	struct virtq_chain chain;
	unsigned packets = 0;
	size_t bytes = 0;

	for (;;) {
		if (packets++ == vq->num || bytes > TURN_BYTES) {
			virtio_defer(v->dev, TX);
			break;
		}
		if (!virtq_pop(vq, &chain, v->iov, QUEUE_SIZE))
			break;
		struct virtio_vsock_hdr h;
		if (iov_take(&chain.out, &chain.out_count, &h, sizeof(h)) != sizeof(h)) {
			virtio_broken(v->dev, "a packet without its header");
			break;
		}
		__asm__ volatile("" : "+m"(h)); /* read once */
		uint64_t payload = chain.out_len - sizeof(h);
		bytes += payload;
		if (h.len <= payload)
			cut(&chain, h.len);
		take_packet(v, &h, &chain, payload);
		virtq_push(vq, chain.head, 0);
	}
	virtq_signal(vq);
	vsock_serve(v);
}

/* ---- the device ---- */

static void vsock_notify(void *priv, unsigned queue)
{
	struct vsock *v = priv;

	if (queue == TX)
		serve_tx(v);
	else if (queue == RX)
		vsock_serve(v);
}

static void vsock_reset(void *priv)
{
	struct vsock *v = priv;
	struct vsock_conn *c;

	while ((c = LIST_FIRST(&v->conns)))
		vsock_free(c);
	v->nstrays = 0;
}

static void vsock_destroy(void *priv)
{
	struct vsock *v = priv;
	struct stat st;

	vsock_reset(v);
	if (v->listener >= 0) {
		if (!lstat(v->address.sun_path, &st) && st.st_dev == v->file_dev && st.st_ino == v->file_ino)
			unlink(v->address.sun_path);
		loop_del_fd(v->loop, v->listener);
		close(v->listener);
	}
	free(v);
}

static const struct virtio_ops vsock_ops = {
	.name = "vsock",
	.device_id = VIRTIO_ID_VSOCK,
	.notify = vsock_notify,
	.reset = vsock_reset,
	.destroy = vsock_destroy,
};

/* Listen at PATH; a dead socket there is taken away, nothing else. 0 or -errno. */
static int listen_there(struct vsock *v)
{
	const struct sockaddr *a = (struct sockaddr *)&v->address;
	const char *path = v->address.sun_path;
	struct stat st;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), r = 0;

	if (fd < 0)
		return -errno;
	if (!connect(fd, a, sizeof(v->address)) || errno == EAGAIN) {
		close(fd);
		return -EADDRINUSE;
	}
	int refused = errno;
	if (!lstat(path, &st)) {
		if (!S_ISSOCK(st.st_mode))
			r = -EEXIST;
		else if (refused != ECONNREFUSED || unlink(path))
			r = refused != ECONNREFUSED ? -refused : -errno;
	}
	fchmod(fd, 0600); /* what bind gives to the file */
	if (!r && (bind(fd, a, sizeof(v->address)) || lstat(path, &st) || listen(fd, 64)))
		r = -errno;
	if (!r)
		r = loop_add_fd(v->loop, fd, EPOLLIN, vsock_client, v);
	if (r) {
		close(fd);
		return r;
	}
	v->listener = fd;
	v->file_dev = st.st_dev;
	v->file_ino = st.st_ino;
	return 0;
}

struct virtio_dev *virtio_vsock_create(const struct virtio_env *env, const char *path, uint32_t cid,
				       char err[DEVICE_ERR])
{
	static const uint16_t queue_sizes[QUEUES] = {QUEUE_SIZE, QUEUE_SIZE, 16};
	struct vsock *v = calloc(1, sizeof(*v));
	struct virtio_shape shape = {.nqueues = QUEUES,
				     .queue_sizes = queue_sizes,
				     .config = v ? &v->config : NULL,
				     .config_size = sizeof(v->config)};
	int r = -ENOMEM;

	if (v) {
		v->loop = env->loop;
		v->listener = -1;
		v->config.guest_cid = cid;
		v->address.sun_family = AF_UNIX;
		strncpy(v->address.sun_path, path, sizeof(v->address.sun_path) - 1);
		LIST_INIT(&v->conns);
		TAILQ_INIT(&v->queue);
		v->dev = virtio_create(env, &vsock_ops, &shape, v);
		r = v->dev ? listen_there(v) : -ENOMEM;
	}
	if (!r)
		return v->dev;
	device_error(err, "vsock %s: %s; %s", path, strerror(-r),
		     r == -EADDRINUSE ? "another program listens there; give another path"
		     : r == -EEXIST   ? "this file is not a socket; remove it or give another path"
				      : "give a path in a directory that you can write to");
	if (v && v->dev)
		virtio_destroy(v->dev);
	else
		free(v);
	return NULL;
}
