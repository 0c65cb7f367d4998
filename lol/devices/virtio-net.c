/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * virtio-net (virtio 1.2, 5.1). Queues: 0 and 1 receive and transmit of the first pair, 2 and 3 of the second..., the last
 * one takes commands; a driver that knows nothing of several pairs finds that one at 2.
 *
 * Frames for the guest go to the pair on which the guest last sent a frame of the same connection (5.1.6.5.5).
 */
#include "virtio-net.h"

#include "net-packet.h"

#include <stdlib.h>
#include <string.h>

#define QUEUE_SIZE 256u
#define TURN_BYTES (1u << 20) /* from the guest, in one turn of the loop */
#define FLOWS 256u
#define BIT(n) (UINT64_C(1) << (n))

#define RX_OFFLOADS \
	(BIT(VIRTIO_NET_F_GUEST_CSUM) | BIT(VIRTIO_NET_F_GUEST_TSO4) | BIT(VIRTIO_NET_F_GUEST_TSO6) | \
	 BIT(VIRTIO_NET_F_GUEST_ECN))

/* A frame that the guest has sent and the back-end has not taken yet. */
struct outgoing {
	bool holding;
	uint16_t head;
	struct virtio_net_hdr_v1 hdr;
	struct iovec *iov;
	unsigned count;
	size_t len;
	struct iovec room[QUEUE_SIZE];
};

struct net {
	struct virtio_dev *dev;
	struct net_backend *backend;
	struct virtio_net_config config;
	unsigned max_pairs, pairs; /* pairs: in use, by the driver's command */
	bool started;              /* the back-end knows what was agreed */
	bool starved;              /* a frame found no receive buffer */
	bool serving;              /* inside serve_tx() */
	uint8_t flow_pair[FLOWS];
	struct iovec iov[QUEUE_SIZE]; /* of receive and command chains, which are done with at once */
	struct outgoing out[];
};

static struct virtq *rx_queue(struct net *net, unsigned pair)
{
	return &net->dev->vq[2 * pair];
}

static struct virtq *tx_queue(struct net *net, unsigned pair)
{
	return &net->dev->vq[2 * pair + 1];
}

static unsigned control_queue(const struct net *net)
{
	return virtio_has(net->dev, VIRTIO_NET_F_MQ) ? 2 * net->max_pairs : 2;
}

/* ---- from the guest ---- */

/* 5.1.6.2: only what was agreed, and only about bytes that are there. */
static bool header_makes_sense(const struct net *net, const struct virtio_net_hdr_v1 *hdr, size_t len)
{
	unsigned gso = hdr->gso_type & ~VIRTIO_NET_HDR_GSO_ECN;

	if (len < NET_FRAME_MIN || len > NET_FRAME_MAX)
		return false;
	if (hdr->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM &&
	    (!virtio_has(net->dev, VIRTIO_NET_F_CSUM) || hdr->csum_start + hdr->csum_offset + 2u > len))
		return false;
	if (hdr->gso_type & VIRTIO_NET_HDR_GSO_ECN && !virtio_has(net->dev, VIRTIO_NET_F_HOST_ECN))
		return false;
	if (gso == VIRTIO_NET_HDR_GSO_NONE)
		return true;
	if (!(hdr->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) || !hdr->gso_size || hdr->hdr_len > len)
		return false;
	return (gso == VIRTIO_NET_HDR_GSO_TCPV4 && virtio_has(net->dev, VIRTIO_NET_F_HOST_TSO4)) ||
	       (gso == VIRTIO_NET_HDR_GSO_TCPV6 && virtio_has(net->dev, VIRTIO_NET_F_HOST_TSO6));
}

static void learn_flow(struct net *net, unsigned pair, const struct outgoing *o)
{
	uint8_t start[NET_FLOW_BYTES];
	size_t n = 0;

	for (unsigned i = 0; i < o->count && n < sizeof(start); i++) {
		size_t len = MIN(o->iov[i].iov_len, sizeof(start) - n);
		memcpy(start + n, o->iov[i].iov_base, len);
		n += len;
	}
	net->flow_pair[net_flow(start, n) % FLOWS] = (uint8_t)pair;
}

/* Take the next frame into o. False: there is none. */
static bool next_frame(struct net *net, unsigned pair, struct outgoing *o)
{
	struct virtq_chain chain;

	if (!virtq_pop(tx_queue(net, pair), &chain, o->room, QUEUE_SIZE))
		return false;
	o->holding = true;
	o->head = chain.head;
	if (iov_take(&chain.out, &chain.out_count, &o->hdr, sizeof(o->hdr)) != sizeof(o->hdr)) {
		virtio_broken(net->dev, "a frame without its header");
		return false;
	}
	o->len = (size_t)(chain.out_len - sizeof(o->hdr));
	o->iov = chain.out;
	o->count = chain.out_count;
	if (!header_makes_sense(net, &o->hdr, o->len))
		o->len = 0; /* nobody gets it */
	else if (net->pairs > 1)
		learn_flow(net, pair, o);
	return true;
}

static void serve_tx(struct net *net, unsigned pair)
{
	struct virtq *vq = tx_queue(net, pair);
	struct outgoing *o = &net->out[pair];
	size_t bytes = 0;
	unsigned frames = 0;

	if (net->serving || !net->dev->live || !vq->ready)
		return;
	net->serving = true;
	for (;;) {
		if (!o->holding && (frames++ == vq->num || bytes > TURN_BYTES)) {
			virtio_defer(net->dev, vq->index);
			break;
		}
		if (!o->holding && !next_frame(net, pair, o))
			break;
		struct net_backend *b = net->backend;
		if (o->len && !b->ops->send(b, &o->hdr, o->iov, o->count, o->len))
			break;
		bytes += o->len;
		o->holding = false;
		virtq_push(vq, o->head, 0);
	}
	net->serving = false;
	if (net->backend->ops->flush)
		net->backend->ops->flush(net->backend);
	virtq_signal(vq);
}

void virtio_net_resume(struct virtio_dev *dev)
{
	struct net *net = dev->priv;

	for (unsigned i = 0; i < net->max_pairs; i++)
		if (net->out[i].holding)
			virtio_defer(dev, 2 * i + 1);
}

/* ---- to the guest ---- */

/* Where a frame's pieces go, until all of them are known to fit. */
struct incoming {
	struct vring_used_elem chains[QUEUE_SIZE];
	unsigned count;
	struct iovec
		header[sizeof(struct virtio_net_hdr_v1)]; /* where the header is, written when the count is known */
	unsigned nheader;
};

/* Remember the first bytes of the first chain: no buffer is empty, so so many pieces are enough for the header. */
static void note_header(struct incoming *in, const struct virtq_chain *chain)
{
	in->nheader = MIN(chain->in_count, (unsigned)ARRAY_LEN(in->header));
	memcpy(in->header, chain->in, in->nheader * sizeof(in->header[0]));
}

enum fit { FITS, FITS_NEVER, NO_BUFFER };

/* Copy the frame into as many chains as it takes. */
static enum fit place(struct net *net, struct virtq *vq, struct incoming *in, const uint8_t *frame, size_t len)
{
	bool mergeable = virtio_has(net->dev, VIRTIO_NET_F_MRG_RXBUF);
	size_t done = 0;

	while (done < len || !in->count) {
		struct virtq_chain chain;
		if (in->count == vq->num || (in->count && !mergeable))
			return FITS_NEVER;
		if (!virtq_pop(vq, &chain, net->iov, QUEUE_SIZE))
			return net->dev->live ? NO_BUFFER : FITS_NEVER;
		size_t header = 0;
		if (!in->count) {
			note_header(in, &chain);
			header = sizeof(struct virtio_net_hdr_v1);
			iov_skip(&chain.in, &chain.in_count, header);
		}
		in->chains[in->count++].id = chain.head;
		if (chain.in_len <= header) {
			virtio_broken(net->dev, "a receive buffer of %llu bytes", (unsigned long long)chain.in_len);
			return FITS_NEVER;
		}
		size_t n = iov_put(&chain.in, &chain.in_count, frame + done, len - done);
		in->chains[in->count - 1].len = (uint32_t)(header + n);
		done += n;
	}
	return FITS;
}

/* Offloads that the driver has not agreed to: leftovers of a driver before it, in a queue of the host. */
static bool acceptable(const struct net *net, const struct virtio_net_hdr_v1 *hdr)
{
	switch (hdr->gso_type & ~VIRTIO_NET_HDR_GSO_ECN) {
	case VIRTIO_NET_HDR_GSO_NONE:
		return !(hdr->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) || virtio_has(net->dev, VIRTIO_NET_F_GUEST_CSUM);
	case VIRTIO_NET_HDR_GSO_TCPV4:
		return virtio_has(net->dev, VIRTIO_NET_F_GUEST_TSO4);
	case VIRTIO_NET_HDR_GSO_TCPV6:
		return virtio_has(net->dev, VIRTIO_NET_F_GUEST_TSO6);
	default:
		return false;
	}
}

bool virtio_net_receive(struct virtio_dev *dev, const struct virtio_net_hdr_v1 *hdr, const void *frame, size_t len)
{
	static const struct virtio_net_hdr_v1 no_offload;
	struct net *net = dev->priv;
	struct incoming in;
	struct virtio_net_hdr_v1 h = hdr ? *hdr : no_offload;

	if (!dev->live || !net->started || len < NET_FRAME_MIN || len > NET_FRAME_MAX || !acceptable(net, &h))
		return true; /* dropped, as by any card that nobody has switched on */
	unsigned pair = net->pairs > 1 ? net->flow_pair[net_flow(frame, len) % FLOWS] : 0;
	struct virtq *vq = rx_queue(net, pair < net->pairs ? pair : 0);
	if (!vq->ready)
		return true;
	in.count = 0;
	enum fit fit = place(net, vq, &in, frame, len);
	if (fit != FITS) {
		virtq_unpop(vq, in.count);
		net->starved |= fit == NO_BUFFER;
		return fit != NO_BUFFER;
	}
	if (!virtio_has(dev, VIRTIO_NET_F_GUEST_CSUM))
		h.flags = 0;
	h.num_buffers = (uint16_t)in.count;
	struct iovec *to = in.header;
	iov_put(&to, &in.nheader, &h, sizeof(h));
	virtq_push_all(vq, in.chains, in.count);
	return true;
}

void virtio_net_received(struct virtio_dev *dev)
{
	struct net *net = dev->priv;

	for (unsigned i = 0; i < net->max_pairs; i++)
		virtq_signal(rx_queue(net, i));
}

/* ---- commands (5.1.6.5) ---- */

static uint8_t command(struct net *net, const struct virtio_net_ctrl_hdr *h, struct virtq_chain *chain)
{
	uint8_t mac[6];
	uint16_t pairs;

	switch (h->class) {
	case VIRTIO_NET_CTRL_RX: /* everything that the back-end has for us is for the guest: no filter */
	case VIRTIO_NET_CTRL_VLAN:
		return VIRTIO_NET_OK;
	case VIRTIO_NET_CTRL_MAC:
		if (h->cmd == VIRTIO_NET_CTRL_MAC_TABLE_SET)
			return VIRTIO_NET_OK;
		if (h->cmd != VIRTIO_NET_CTRL_MAC_ADDR_SET ||
		    iov_take(&chain->out, &chain->out_count, mac, sizeof(mac)) != sizeof(mac))
			return VIRTIO_NET_ERR;
		memcpy(net->config.mac, mac, sizeof(mac));
		return VIRTIO_NET_OK;
	case VIRTIO_NET_CTRL_MQ:
		if (h->cmd != VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET || !virtio_has(net->dev, VIRTIO_NET_F_MQ) ||
		    iov_take(&chain->out, &chain->out_count, &pairs, sizeof(pairs)) != sizeof(pairs))
			return VIRTIO_NET_ERR;
		__asm__ volatile("" : "+m"(pairs));
		if (!pairs || pairs > net->max_pairs)
			return VIRTIO_NET_ERR;
		net->pairs = pairs;
		return VIRTIO_NET_OK;
	default:
		return VIRTIO_NET_ERR;
	}
}

static void serve_control(struct net *net, unsigned queue)
{
	struct virtq *vq = &net->dev->vq[queue];
	struct virtq_chain chain;
	unsigned budget = vq->num;

	while (budget && virtq_pop(vq, &chain, net->iov, QUEUE_SIZE)) {
		struct virtio_net_ctrl_hdr h;
		uint8_t ack = VIRTIO_NET_ERR;
		budget--;
		if (iov_take(&chain.out, &chain.out_count, &h, sizeof(h)) == sizeof(h)) {
			__asm__ volatile("" : "+m"(h)); /* read once */
			ack = command(net, &h, &chain);
		}
		virtq_push(vq, chain.head, (uint32_t)iov_put(&chain.in, &chain.in_count, &ack, sizeof(ack)));
	}
	virtq_signal(vq);
	if (!budget)
		virtio_defer(net->dev, queue);
}

/* ---- the device ---- */

void virtio_net_set_link(struct virtio_dev *dev, bool up)
{
	struct net *net = dev->priv;
	uint16_t status = up ? VIRTIO_NET_S_LINK_UP : 0;

	if (net->config.status == status)
		return;
	net->config.status = status;
	virtio_config_changed(dev);
}

/* The first notification behind DRIVER_OK. */
static void start(struct net *net)
{
	struct net_backend *b = net->backend;

	net->started = true;
	net->pairs = 1;
	memset(net->flow_pair, 0, sizeof(net->flow_pair));
	if (b->ops->agreed)
		b->ops->agreed(b, net->dev->driver_features);
	b->ops->rx_ready(b);
}

static void net_notify(void *priv, unsigned queue)
{
	struct net *net = priv;

	if (!net->started)
		start(net);
	if (queue == control_queue(net)) {
		serve_control(net, queue);
	} else if (queue < 2 * net->max_pairs && queue & 1) {
		serve_tx(net, queue / 2);
	} else if (net->starved) {
		net->starved = false;
		net->backend->ops->rx_ready(net->backend);
	}
}

static void net_reset(void *priv)
{
	struct net *net = priv;

	for (unsigned i = 0; i < net->max_pairs; i++)
		net->out[i].holding = false;
	net->starved = false;
	if (net->started && net->backend->ops->agreed)
		net->backend->ops->agreed(net->backend, 0);
	net->started = false;
}

static void net_destroy(void *priv)
{
	struct net *net = priv;

	net->backend->ops->destroy(net->backend);
	free(net);
}

static const struct virtio_ops net_ops = {
	.name = "net",
	.device_id = VIRTIO_ID_NET,
	.notify = net_notify,
	.reset = net_reset,
	.destroy = net_destroy,
};

static uint64_t features_of(const struct net *net)
{
	uint64_t f = BIT(VIRTIO_NET_F_MAC) | BIT(VIRTIO_NET_F_STATUS) | BIT(VIRTIO_NET_F_MRG_RXBUF) |
		     BIT(VIRTIO_NET_F_CTRL_VQ) | BIT(VIRTIO_NET_F_CTRL_RX) | BIT(VIRTIO_NET_F_CTRL_MAC_ADDR);

	f |= net->backend->features & (RX_OFFLOADS | BIT(VIRTIO_NET_F_CSUM) | BIT(VIRTIO_NET_F_HOST_TSO4) |
				       BIT(VIRTIO_NET_F_HOST_TSO6) | BIT(VIRTIO_NET_F_HOST_ECN));
	if (net->config.mtu)
		f |= BIT(VIRTIO_NET_F_MTU);
	if (net->max_pairs > 1)
		f |= BIT(VIRTIO_NET_F_MQ);
	return f;
}

static struct virtio_dev *create_device(const struct virtio_env *env, struct net *net)
{
	uint16_t queue_sizes[2 * NET_PAIRS_MAX + 1];

	for (unsigned i = 0; i < ARRAY_LEN(queue_sizes); i++)
		queue_sizes[i] = QUEUE_SIZE;
	struct virtio_shape shape = {.features = features_of(net),
				     .nqueues = 2 * net->max_pairs + 1,
				     .queue_sizes = queue_sizes,
				     .config = &net->config,
				     .config_size = sizeof(net->config)};
	return virtio_create(env, &net_ops, &shape, net);
}

struct virtio_dev *virtio_net_create(const struct virtio_env *env, const struct net_config *config,
				     char err[DEVICE_ERR])
{
	struct net_backend *b = config->backend;
	unsigned pairs = config->pairs;
	struct net *net =
		pairs && pairs <= NET_PAIRS_MAX ? calloc(1, sizeof(*net) + pairs * sizeof(net->out[0])) : NULL;

	if (net) {
		net->backend = b;
		net->max_pairs = pairs;
		net->pairs = 1;
		net->config.status = b->down ? 0 : VIRTIO_NET_S_LINK_UP;
		net->config.max_virtqueue_pairs = (uint16_t)pairs;
		net->config.mtu = config->mtu ? config->mtu : b->mtu;
		memcpy(net->config.mac, config->mac, sizeof(net->config.mac));
		net->dev = create_device(env, net);
	}
	if (!net || !net->dev) {
		device_error(err, "network card: out of memory; close something");
		b->ops->destroy(b);
		free(net);
		return NULL;
	}
	b->dev = net->dev;
	return net->dev;
}
