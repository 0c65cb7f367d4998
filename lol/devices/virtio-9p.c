/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * virtio-9p (Linux's net/9p/trans_virtio.c is the driver; the transport is in no version of the virtio specification but
 * for its device number). One queue; a chain is one request, its readable part the message, its writable part the room for
 * the answer.
 *
 * The guest's tags are replaced by the numbers of our own slots. So an answer finds its chain without believing the guest,
 * and after a reset the answers to forgotten requests are told from those to new ones: their slots stay taken until then.
 *
 * A full socket and an exhausted set of slots both leave requests in the queue; what ends that state looks there again.
 */
#include "virtio-9p.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_9p.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define QUEUE_SIZE 128u
#define SLOTS 256u
#define NO_SLOT 0xfffeu
#define TAG_MAX 128u
#define BUFFER (P9_MSIZE_MAX + 4096u + 64u) /* the longest message and what attaching adds */

struct slot {
	bool busy;
	bool forgotten;   /* the driver has reset the device meanwhile */
	uint16_t tag;     /* the guest's */
	uint16_t flushed; /* of a Tflush: the slot it is about, or NO_SLOT */
	uint16_t head;
	uint64_t room; /* bytes in `in` */
	unsigned in_count;
	struct iovec in[QUEUE_SIZE];
};

struct p9 {
	struct virtio_dev *dev;
	struct p9_policy policy;
	char *dir, *root;
	int fd; /* -1: the server is gone */
	size_t tx_len, tx_sent, rx_len;
	bool pushed;
	struct virtio_9p_config *config;
	struct slot slots[SLOTS];
	uint8_t tx[BUFFER], rx[BUFFER];
};

/* ---- answers ---- */

static void answer(struct p9 *p9, struct slot *s, const uint8_t *msg, uint32_t len)
{
	struct iovec *in = s->in;
	unsigned count = s->in_count;
	uint8_t error[P9_ERROR_SIZE];

	if (!s->forgotten) {
		if (len > s->room) {
			p9_error(error, s->tag, EIO);
			msg = error;
			len = sizeof(error);
		}
		virtq_push(&p9->dev->vq[0], s->head, (uint32_t)iov_put(&in, &count, msg, len));
		p9->pushed = true;
	}
	s->busy = false;
}

static void answer_error(struct p9 *p9, struct slot *s, int error)
{
	uint8_t msg[P9_ERROR_SIZE];

	p9_error(msg, s->tag, error);
	answer(p9, s, msg, sizeof(msg));
}

static void signal_driver(struct p9 *p9)
{
	if (p9->pushed)
		virtq_signal(&p9->dev->vq[0]);
	p9->pushed = false;
}

/* What is under way and what comes is answered with I/O errors from here on. */
static void server_gone(struct p9 *p9, const char *why)
{
	if (p9->fd < 0)
		return;
	device_report(REPORT_WARNING, "share %s: %s; the guest sees I/O errors there", p9->dir, why);
	loop_del_fd(p9->dev->env.loop, p9->fd);
	close(p9->fd);
	p9->fd = -1;
	p9->tx_len = p9->tx_sent = p9->rx_len = 0;
	for (unsigned i = 0; i < SLOTS; i++)
		if (p9->slots[i].busy)
			answer_error(p9, &p9->slots[i], EIO);
}

/* ---- from the guest ---- */

static unsigned free_slot(const struct p9 *p9)
{
	unsigned i = 0;

	while (i < SLOTS && p9->slots[i].busy)
		i++;
	return i;
}

static uint16_t slot_of_tag(const struct p9 *p9, uint16_t tag, const struct slot *except)
{
	for (unsigned i = 0; i < SLOTS; i++) {
		const struct slot *s = &p9->slots[i];
		if (s->busy && !s->forgotten && s->tag == tag && s != except)
			return (uint16_t)i;
	}
	return NO_SLOT;
}

static bool flush_tx(struct p9 *p9)
{
	while (p9->fd >= 0 && p9->tx_sent < p9->tx_len) {
		ssize_t n = send(p9->fd, p9->tx + p9->tx_sent, p9->tx_len - p9->tx_sent, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN) {
			loop_mod_fd(p9->dev->env.loop, p9->fd, EPOLLIN | EPOLLOUT);
			return false;
		}
		if (n < 0) {
			server_gone(p9, "its server has gone");
			break;
		}
		p9->tx_sent += (size_t)n;
	}
	p9->tx_len = p9->tx_sent = 0;
	return true;
}

/* The message is in tx, which was empty. */
static void start_request(struct p9 *p9, struct slot *s, unsigned index, uint32_t len)
{
	uint8_t *msg = p9->tx;
	int error = p9->fd < 0 ? EIO : p9_request(&p9->policy, msg, &len, BUFFER);

	if (error) {
		answer_error(p9, s, error);
		return;
	}
	if (msg[4] == P9_TFLUSH) {
		s->flushed = slot_of_tag(p9, p9_flush_tag(msg), s);
		p9_set_flush_tag(msg, s->flushed);
	}
	p9_set_tag(msg, (uint16_t)index);
	p9->tx_len = len;
	flush_tx(p9);
}

/* One chain; false when the driver has broken the rules. */
static bool take_chain(struct p9 *p9, struct virtq_chain *c, struct slot *s, unsigned index)
{
	s->busy = true;
	s->forgotten = false;
	s->flushed = NO_SLOT;
	s->head = c->head;
	s->in_count = c->in_count;
	s->room = c->in_len;
	memmove(s->in, c->in, c->in_count * sizeof(s->in[0]));
	if (c->out_len < P9_HEADER || c->out_len > P9_MSIZE_MAX || c->in_len < P9_ERROR_SIZE) {
		s->busy = false;
		virtio_broken(p9->dev, "message of %llu bytes, %llu for its answer", (unsigned long long)c->out_len,
			      (unsigned long long)c->in_len);
		return false;
	}
	uint32_t len = (uint32_t)iov_take(&c->out, &c->out_count, p9->tx, c->out_len);
	s->tag = p9_tag(p9->tx);
	/* A driver may give more than the message is long. */
	uint32_t size = p9_size(p9->tx);
	if (size < P9_HEADER || size > len)
		answer_error(p9, s, EINVAL);
	else
		start_request(p9, s, index, size);
	return true;
}

static void p9_notify(void *priv, unsigned queue)
{
	struct p9 *p9 = priv;
	struct virtq *vq = &p9->dev->vq[queue];
	struct virtq_chain chain;
	struct iovec iov[QUEUE_SIZE];
	unsigned budget = vq->num;

	while (budget && !p9->tx_len) {
		unsigned index = free_slot(p9);
		if (index == SLOTS || !virtq_pop(vq, &chain, iov, QUEUE_SIZE) ||
		    !take_chain(p9, &chain, &p9->slots[index], index))
			break;
		budget--;
	}
	if (!budget)
		virtio_defer(p9->dev, queue);
	signal_driver(p9);
}

/* ---- from the server ---- */

static bool take_reply(struct p9 *p9, uint8_t *msg, uint32_t len)
{
	unsigned index = p9_tag(msg);
	struct slot *s = &p9->slots[index % SLOTS];

	if (index >= SLOTS || !s->busy || !p9_reply(msg, len))
		return false;
	/* A request that was flushed gets no answer of its own behind this one (flush(5)); its buffers must go back. */
	if (msg[4] == P9_RFLUSH && s->flushed < SLOTS && p9->slots[s->flushed].busy && s->flushed != index)
		answer_error(p9, &p9->slots[s->flushed], EINTR);
	p9_set_tag(msg, s->tag);
	answer(p9, s, msg, len);
	return true;
}

/* Whole messages in rx. */
static bool take_replies(struct p9 *p9)
{
	size_t at = 0;

	while (p9->rx_len - at >= P9_HEADER) {
		uint32_t len = p9_size(p9->rx + at);
		if (len < P9_HEADER || len > BUFFER)
			return false;
		if (p9->rx_len - at < len)
			break;
		if (!take_reply(p9, p9->rx + at, len))
			return false;
		at += len;
	}
	p9->rx_len -= at;
	memmove(p9->rx, p9->rx + at, p9->rx_len);
	return true;
}

static void server_event(void *arg, uint32_t events)
{
	struct p9 *p9 = arg;

	if (events & EPOLLOUT) {
		loop_mod_fd(p9->dev->env.loop, p9->fd, EPOLLIN);
		flush_tx(p9);
	}
	if (p9->fd >= 0 && events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
		ssize_t n = recv(p9->fd, p9->rx + p9->rx_len, BUFFER - p9->rx_len, MSG_DONTWAIT);
		if (n > 0) {
			p9->rx_len += (size_t)n;
			if (!take_replies(p9))
				server_gone(p9, "its server speaks nonsense");
		} else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
			server_gone(p9, "its server has ended");
		}
	}
	signal_driver(p9);
	virtio_notify(p9->dev, 0); /* there may be room again */
}

/* ---- life ---- */

static void p9_reset(void *priv)
{
	struct p9 *p9 = priv;

	for (unsigned i = 0; i < SLOTS; i++)
		p9->slots[i].forgotten = p9->slots[i].busy;
	p9->pushed = false;
}

static void p9_destroy(void *priv)
{
	struct p9 *p9 = priv;

	if (p9->fd >= 0) {
		loop_del_fd(p9->dev->env.loop, p9->fd);
		close(p9->fd);
	}
	free(p9->config);
	free(p9->dir);
	free(p9->root);
	free(p9);
}

static const struct virtio_ops p9_ops = {
	.name = "9p",
	.device_id = VIRTIO_ID_9P,
	.notify = p9_notify,
	.reset = p9_reset,
	.destroy = p9_destroy,
};

struct virtio_dev *virtio_9p_create(const struct virtio_env *env, const struct p9_config *config, char err[DEVICE_ERR])
{
	static const uint16_t queue_sizes[] = {QUEUE_SIZE};
	size_t tag_len = strnlen(config->tag, TAG_MAX);
	struct p9 *p9 = calloc(1, sizeof(*p9));
	struct virtio_9p_config *space = calloc(1, sizeof(*space) + tag_len);
	char *dir = strdup(config->dir), *root = strdup(config->policy.root);

	if (p9 && space && dir && root) {
		struct virtio_shape shape = {.features = UINT64_C(1) << VIRTIO_9P_MOUNT_TAG,
					     .nqueues = 1,
					     .queue_sizes = queue_sizes,
					     .config = space,
					     .config_size = (uint32_t)(sizeof(*space) + tag_len)};
		space->tag_len = (uint16_t)tag_len;
		memcpy(space->tag, config->tag, tag_len);
		p9->policy = config->policy;
		p9->policy.root = p9->root = root;
		p9->dir = dir;
		p9->fd = config->fd;
		p9->config = space;
		p9->dev = virtio_create(env, &p9_ops, &shape, p9);
		if (p9->dev && !loop_add_fd(env->loop, p9->fd, EPOLLIN, server_event, p9))
			return p9->dev;
		free(p9->dev);
	}
	free(root);
	free(dir);
	free(space);
	free(p9);
	device_error(err, "share %s: out of memory or descriptors", config->dir);
	return NULL;
}
