/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * virtio-console (virtio 1.2, 5.3). Queues: 0 and 1 are input and output of port 0, 2 and 3 carry control messages, 4 and
 * 5 belong to port 1, and so on. Directions are named as the host sees them: output comes from the guest.
 *
 * A port's output chain is popped once and consumed in pieces as the host side takes them. Control messages to the guest
 * are state, not a stream: each port has a set of messages that are still due (struct port.due), so a guest that does not
 * supply buffers for them costs no memory.
 */
#include "virtio-console.h"

#include <linux/virtio_console.h>
#include <stdlib.h>
#include <string.h>

#define DATA_QUEUE_SIZE 128
#define CONTROL_QUEUE_SIZE 64
#define QUEUE_CONTROL_IN 2u
#define QUEUE_CONTROL_OUT 3u
#define CHUNK 4096u
#define TURN_BYTES (1u << 20)  /* of output, in one turn of the loop */
#define KEPT_BYTES (64u << 20) /* of output that outlives a reset, per port; an honest driver has 4 MiB at most */

/* Messages to the guest, in the order in which they go out. OPEN comes before NAME: a port with a name is ready for use. */
enum due {
	DUE_ADD = 1 << 0,
	DUE_CONSOLE = 1 << 1,
	DUE_OPEN = 1 << 2,
	DUE_NAME = 1 << 3,
	DUE_RESIZE = 1 << 4,
};

struct port {
	const struct console_port_ops *ops;
	void *ctx;
	char *name;
	bool guest_ready, guest_open, closing; /* closing: the guest has closed it, its output is not all delivered */
	bool host_open;
	bool starved; /* a send was cut short */
	bool serving; /* inside serve_output() */
	unsigned due;
	/* The output chain in hand. */
	bool holding;
	uint16_t head;
	struct iovec *rest;
	unsigned nrest;
	struct iovec iov[DATA_QUEUE_SIZE];
	/* Output that was in the queue at a reset: a guest that powers off resets its devices, and a slow reader of ours is
	 * not to lose the end of its output for that. */
	uint8_t *kept;
	size_t kept_len, kept_at;
};

struct console {
	struct virtio_dev *dev;
	struct virtio_console_config config;
	uint16_t rows, cols;
	unsigned nports;
	struct iovec iov[DATA_QUEUE_SIZE]; /* of input and control chains, which are done with at once */
	struct port ports[];
};

static unsigned input_queue(unsigned port)
{
	return port ? 2 * port + 2 : 0;
}

static unsigned output_queue(unsigned port)
{
	return input_queue(port) + 1;
}

static bool is_console(unsigned port)
{
	return port == 0;
}

static bool multiport(const struct console *c)
{
	return virtio_has(c->dev, VIRTIO_CONSOLE_F_MULTIPORT);
}

/* ---- control messages to the guest ---- */

/* Build the message; returns its length. */
static size_t build_message(const struct console *c, unsigned port, enum due what, uint8_t *buf, size_t size)
{
	const struct port *p = &c->ports[port];
	struct virtio_console_control m = {.id = port, .value = 1};
	/* Rows first: Linux has always read it so, whatever the structure in the specification's text says. */
	uint16_t window[2] = {c->rows, c->cols};
	const void *tail = NULL;
	size_t tail_len = 0;
	switch (what) {
	case DUE_ADD:
		m.event = VIRTIO_CONSOLE_PORT_ADD;
		break;
	case DUE_CONSOLE:
		m.event = VIRTIO_CONSOLE_CONSOLE_PORT;
		break;
	case DUE_OPEN:
		m.event = VIRTIO_CONSOLE_PORT_OPEN;
		m.value = p->host_open;
		break;
	case DUE_NAME:
		m.event = VIRTIO_CONSOLE_PORT_NAME;
		tail = p->name;
		tail_len = strlen(p->name);
		break;
	case DUE_RESIZE:
		m.event = VIRTIO_CONSOLE_RESIZE;
		tail = window;
		tail_len = sizeof(window);
		break;
	}
	tail_len = MIN(tail_len, size - sizeof(m));
	memcpy(buf, &m, sizeof(m));
	if (tail_len)
		memcpy(buf + sizeof(m), tail, tail_len);
	return sizeof(m) + tail_len;
}

/* Send what is due as far as the guest has buffers. */
static void send_control(struct console *c)
{
	struct virtq *vq = &c->dev->vq[QUEUE_CONTROL_IN];
	bool pushed = false;
	for (unsigned port = 0; port < c->nports; port++) {
		while (c->ports[port].due) {
			struct virtq_chain chain;
			uint8_t message[sizeof(struct virtio_console_control) + 64];
			if (!virtq_pop(vq, &chain, c->iov, ARRAY_LEN(c->iov)))
				goto out;
			enum due what = (enum due)(c->ports[port].due & -c->ports[port].due);
			size_t len = build_message(c, port, what, message, sizeof(message));
			c->ports[port].due &= ~(unsigned)what;
			virtq_push(vq, chain.head, (uint32_t)iov_put(&chain.in, &chain.in_count, message, len));
			pushed = true;
		}
	}
out:
	if (pushed)
		virtq_signal(vq);
}

static void make_due(struct console *c, unsigned port, unsigned what)
{
	if (!multiport(c) || !c->dev->live)
		return;
	c->ports[port].due |= what;
	send_control(c);
}

/* ---- output: guest to host ---- */

enum delivery { TAKEN, FULL, TURN_OVER };

/* Returns how many bytes are gone; where nobody reads, all of them. */
static size_t to_host(struct port *p, const uint8_t *bytes, size_t len)
{
	if (!p->host_open || !p->ops || !p->ops->output)
		return len;
	size_t taken = p->ops->output(p->ctx, bytes, len);
	return MIN(taken, len);
}

/* Give the chain in hand to the host side. */
static enum delivery deliver(struct console *c, struct port *p, size_t *budget)
{
	while (p->nrest) {
		uint8_t bytes[CHUNK]; /* a copy: the guest may change its buffer while we look */
		struct iovec *v = p->rest;
		size_t len = MIN(v->iov_len, sizeof(bytes));
		if (*budget < len)
			return TURN_OVER;
		memcpy(bytes, v->iov_base, len);
		size_t taken = to_host(p, bytes, len);
		if (!c->dev->live || !p->holding)
			return FULL; /* the callback has stopped the device */
		*budget -= taken;
		iov_skip(&p->rest, &p->nrest, taken);
		if (taken < len)
			return FULL;
	}
	return TAKEN;
}

static enum delivery serve_chains(struct console *c, struct port *p, struct virtq *vq)
{
	struct virtq_chain chain;
	size_t bytes = TURN_BYTES;
	for (unsigned chains = vq->num;; chains--) {
		if (!p->holding) {
			if (!chains)
				return TURN_OVER;
			if (!virtq_pop(vq, &chain, p->iov, ARRAY_LEN(p->iov)))
				return TAKEN;
			p->holding = true;
			p->head = chain.head;
			p->rest = chain.out;
			p->nrest = chain.out_count;
		}
		enum delivery d = deliver(c, p, &bytes);
		if (d != TAKEN)
			return d;
		p->holding = false;
		virtq_push(vq, p->head, 0);
	}
}

static enum delivery deliver_kept(struct port *p)
{
	while (p->kept_at < p->kept_len) {
		size_t len = MIN(p->kept_len - p->kept_at, (size_t)CHUNK);
		size_t taken = to_host(p, p->kept + p->kept_at, len);
		p->kept_at += taken;
		if (taken < len)
			return FULL;
	}
	free(p->kept);
	p->kept = NULL;
	p->kept_len = p->kept_at = 0;
	return TAKEN;
}

static void keep(struct port *p, const struct iovec *iov, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		if (iov[i].iov_len > KEPT_BYTES - p->kept_len)
			return;
		uint8_t *kept = realloc(p->kept, p->kept_len + iov[i].iov_len);
		if (!kept)
			return;
		memcpy(kept + p->kept_len, iov[i].iov_base, iov[i].iov_len);
		p->kept = kept;
		p->kept_len += iov[i].iov_len;
	}
}

/* Empty the port's queue into our memory: its guest buffers are about to be taken back. */
static void keep_output(struct console *c, unsigned port)
{
	struct port *p = &c->ports[port];
	struct virtq *vq = &c->dev->vq[output_queue(port)];
	struct virtq_chain chain;
	if (p->holding)
		keep(p, p->rest, p->nrest);
	p->holding = false;
	for (unsigned n = 0; n < vq->num && virtq_pop(vq, &chain, p->iov, ARRAY_LEN(p->iov)); n++)
		keep(p, chain.out, chain.out_count);
}

/* Returns true when the port has no output left. */
static bool serve_output(struct console *c, unsigned port)
{
	struct port *p = &c->ports[port];
	struct virtq *vq = &c->dev->vq[output_queue(port)];
	if (p->serving)
		return false;
	p->serving = true;
	enum delivery d = deliver_kept(p);
	if (d == TAKEN && c->dev->live && vq->ready)
		d = serve_chains(c, p, vq);
	p->serving = false;
	virtq_signal(vq);
	if (d == TURN_OVER)
		virtio_defer(c->dev, output_queue(port));
	if (d != TAKEN)
		return false;
	if (p->closing) {
		p->closing = false;
		if (p->ops && p->ops->opened)
			p->ops->opened(p->ctx, false);
	}
	if (p->ops && p->ops->drained)
		p->ops->drained(p->ctx);
	return true;
}

/* ---- control messages from the guest ---- */

static void set_guest_open(struct console *c, unsigned port, bool open)
{
	struct port *p = &c->ports[port];
	if (open == p->guest_open)
		return;
	p->guest_open = open;
	if (!open) {
		/* What it wrote before is in its queue already; the host side hears of the closing behind that. */
		p->closing = true;
		serve_output(c, port);
		return;
	}
	p->closing = false;
	if (p->ops && p->ops->opened)
		p->ops->opened(p->ctx, true);
	if (p->ops && p->ops->input_room)
		p->ops->input_room(p->ctx);
}

static void handle_control(struct console *c, const struct virtio_console_control *m)
{
	if (m->event == VIRTIO_CONSOLE_DEVICE_READY) {
		for (unsigned i = 0; m->value && i < c->nports; i++)
			make_due(c, i, DUE_ADD);
		return;
	}
	if (m->id >= c->nports)
		return;
	struct port *p = &c->ports[m->id];
	if (m->event == VIRTIO_CONSOLE_PORT_READY && m->value) {
		p->guest_ready = true;
		make_due(c, m->id,
			 (is_console(m->id) ? DUE_CONSOLE : 0) | DUE_OPEN | (p->name ? DUE_NAME : 0) |
				 (is_console(m->id) && c->rows ? DUE_RESIZE : 0));
	} else if (m->event == VIRTIO_CONSOLE_PORT_OPEN) {
		set_guest_open(c, m->id, m->value);
	}
}

static void serve_control(struct console *c)
{
	struct virtq *vq = &c->dev->vq[QUEUE_CONTROL_OUT];
	struct virtq_chain chain;
	unsigned budget = vq->num;
	while (budget && virtq_pop(vq, &chain, c->iov, ARRAY_LEN(c->iov))) {
		struct virtio_console_control m;
		bool whole = iov_take(&chain.out, &chain.out_count, &m, sizeof(m)) == sizeof(m);
		virtq_push(vq, chain.head, 0);
		if (whole)
			handle_control(c, &m); /* may use c->iov: the chain is done with */
		budget--;
	}
	virtq_signal(vq);
	if (!budget)
		virtio_defer(c->dev, QUEUE_CONTROL_OUT);
}

/* ---- the device ---- */

static void console_notify(void *priv, unsigned queue)
{
	struct console *c = priv;
	if (queue == QUEUE_CONTROL_IN) {
		send_control(c);
	} else if (queue == QUEUE_CONTROL_OUT) {
		serve_control(c);
	} else {
		unsigned port = queue < 2 ? 0 : queue / 2 - 1;
		struct port *p = &c->ports[port];
		if (queue & 1)
			serve_output(c, port);
		else if (p->starved && p->ops && p->ops->input_room) {
			p->starved = false;
			p->ops->input_room(p->ctx);
		}
	}
}

static void console_config_write(void *priv, uint32_t offset, const void *data, unsigned size)
{
	struct console *c = priv;
	struct port *p = &c->ports[0];
	/* Emergency write (5.3.4): one character, before any queue exists. */
	if (offset == offsetof(struct virtio_console_config, emerg_wr) && size && p->ops && p->ops->output)
		p->ops->output(p->ctx, data, 1);
}

static void console_reset(void *priv)
{
	struct console *c = priv;
	for (unsigned i = 0; i < c->nports; i++) {
		struct port *p = &c->ports[i];
		p->closing = p->guest_open || p->closing;
		p->guest_ready = p->guest_open = p->starved = false;
		p->due = 0;
		keep_output(c, i);
		serve_output(c, i);
	}
}

static void console_destroy(void *priv)
{
	struct console *c = priv;
	for (unsigned i = 0; i < c->nports; i++) {
		free(c->ports[i].name);
		free(c->ports[i].kept);
	}
	free(c);
}

static const struct virtio_ops console_ops = {
	.name = "console",
	.device_id = VIRTIO_ID_CONSOLE,
	.config_write = console_config_write,
	.notify = console_notify,
	.reset = console_reset,
	.destroy = console_destroy,
};

static struct virtio_dev *create_device(const struct virtio_env *env, struct console *c)
{
	uint16_t queue_sizes[2 * CONSOLE_PORTS_MAX + 2];
	for (unsigned i = 0; i < ARRAY_LEN(queue_sizes); i++)
		queue_sizes[i] = i == QUEUE_CONTROL_IN || i == QUEUE_CONTROL_OUT ? CONTROL_QUEUE_SIZE : DATA_QUEUE_SIZE;
	struct virtio_shape shape = {
		.features = UINT64_C(1) << VIRTIO_CONSOLE_F_SIZE | UINT64_C(1) << VIRTIO_CONSOLE_F_MULTIPORT |
			    UINT64_C(1) << VIRTIO_CONSOLE_F_EMERG_WRITE,
		.nqueues = 2 * c->nports + 2,
		.queue_sizes = queue_sizes,
		.config = &c->config,
		.config_size = sizeof(c->config),
	};
	return virtio_create(env, &console_ops, &shape, c);
}

struct virtio_dev *virtio_console_create(const struct virtio_env *env, const struct console_port_config *ports,
					 unsigned nports, char err[DEVICE_ERR])
{
	struct console *c = calloc(1, sizeof(*c) + nports * sizeof(c->ports[0]));
	if (!c || !nports || nports > CONSOLE_PORTS_MAX) {
		device_error(err, "console device: %s", c ? "bad number of ports" : "out of memory");
		free(c);
		return NULL;
	}
	c->nports = nports;
	c->config.max_nr_ports = nports;
	for (unsigned i = 0; i < nports; i++)
		c->ports[i] = (struct port){.ops = ports[i].ops,
					    .ctx = ports[i].ctx,
					    .host_open = true,
					    .name = ports[i].name ? strdup(ports[i].name) : NULL};
	c->dev = create_device(env, c);
	if (!c->dev) {
		device_error(err, "console device: out of memory");
		console_destroy(c);
		return NULL;
	}
	return c->dev;
}

void virtio_console_attach(struct virtio_dev *dev, unsigned port, const struct console_port_ops *ops, void *ctx)
{
	struct console *c = dev->priv;
	if (port >= c->nports)
		return;
	c->ports[port].ops = ops;
	c->ports[port].ctx = ctx;
	virtio_console_resume(dev, port);
}

size_t virtio_console_send(struct virtio_dev *dev, unsigned port, const uint8_t *bytes, size_t len)
{
	struct console *c = dev->priv;
	if (port >= c->nports)
		return 0;
	struct port *p = &c->ports[port];
	struct virtq *vq = &dev->vq[input_queue(port)];
	size_t done = 0;
	unsigned budget = vq->num;
	/* Linux throws away what comes for a port that nobody has open; without MULTIPORT there is no opening (5.3.5). */
	while (done < len && (p->guest_open || !multiport(c))) {
		struct virtq_chain chain;
		if (!budget--) {
			virtio_defer(dev, input_queue(port)); /* buffers without room in them: look again later */
			break;
		}
		if (!virtq_pop(vq, &chain, c->iov, ARRAY_LEN(c->iov)))
			break;
		size_t n = iov_put(&chain.in, &chain.in_count, bytes + done, len - done);
		virtq_push(vq, chain.head, (uint32_t)n);
		done += n;
	}
	if (done)
		virtq_signal(vq);
	p->starved = done < len;
	return done;
}

void virtio_console_resume(struct virtio_dev *dev, unsigned port)
{
	struct console *c = dev->priv;
	if (port < c->nports)
		serve_output(c, port);
}

bool virtio_console_drain(struct virtio_dev *dev, unsigned port)
{
	struct console *c = dev->priv;
	return port >= c->nports || serve_output(c, port);
}

void virtio_console_set_open(struct virtio_dev *dev, unsigned port, bool open)
{
	struct console *c = dev->priv;
	if (port >= c->nports || c->ports[port].host_open == open)
		return;
	c->ports[port].host_open = open;
	if (c->ports[port].guest_ready)
		make_due(c, port, DUE_OPEN);
	if (!open)
		virtio_console_resume(dev, port); /* what is left of its output goes nowhere now */
}

bool virtio_console_is_open(const struct virtio_dev *dev, unsigned port)
{
	const struct console *c = dev->priv;
	return port < c->nports && c->ports[port].host_open;
}

void virtio_console_resize(struct virtio_dev *dev, uint16_t rows, uint16_t cols)
{
	struct console *c = dev->priv;
	if (c->rows == rows && c->cols == cols)
		return;
	c->rows = c->config.rows = rows;
	c->cols = c->config.cols = cols;
	if (multiport(c) && c->ports[0].guest_ready)
		make_due(c, 0, DUE_RESIZE);
	else
		virtio_config_changed(dev);
}
