/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Fuzz target: a hostile guest against every virtio device. The input is a small guest RAM with rings and descriptors in it
 * (the fuzzer's to shape) and a program of register accesses, changes of RAM, and turns of the monitor's loop.
 *
 *   byte 0     which device, which engine
 *   then       records: opcode, operands (struct reader below); at the end of the input the rest is zeroes
 *
 * A correct set-up of the queues is one opcode (START), so that the fuzzer gets behind it quickly.
 */
#include "devices/net-stream.h"
#include "devices/virtio-9p.h"
#include "devices/virtio-balloon.h"
#include "devices/virtio-blk.h"
#include "devices/virtio-console.h"
#include "devices/virtio-mmio.h"
#include "devices/virtio-net.h"
#include "devices/virtio-pmem.h"
#include "devices/virtio-rng.h"
#include "devices/virtio-vsock.h"

#include <fcntl.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_vsock.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define RAM_BYTES (256u << 10)
#define LOW_BYTES (192u << 10)
#define DISK_BYTES (64u << 10)
#define QUEUE_NUM 16u
#define OPS_MAX 400

struct reader {
	const uint8_t *p, *end;
};

static uint64_t take(struct reader *r, unsigned bytes)
{
	uint64_t v = 0;
	for (unsigned i = 0; i < bytes && r->p < r->end; i++)
		v |= (uint64_t)*r->p++ << (8 * i);
	return v;
}

static struct guest_ram ram;
static struct loop *loop;
static struct bus bus;
static struct virtio_dev *dev;
static _Atomic uint32_t isr;
static char disk[] = "/tmp/fuzz-virtio-XXXXXX";
static size_t input_room;

/* The host's side of network and vsock. */
#define SOCKETS 4
#define VSOCK_PORT 7
static char sock_path[64];
static int listener = -1, sockets[SOCKETS];
static int server = -1; /* the far end of a share */

static void irq(void *ctx, unsigned line)
{
	(void)ctx;
	(void)line;
}

static void quiet(enum report_level level, const char *line)
{
	(void)level;
	(void)line;
}

static void remove_disk(void)
{
	unlink(disk);
}

static struct sockaddr_un address(const char *suffix)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	snprintf(a.sun_path, sizeof(a.sun_path), "%s%s", sock_path, suffix);
	return a;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	device_report_to = quiet;
	ram = (struct guest_ram){.base = calloc(1, RAM_BYTES), .size = RAM_BYTES, .low = LOW_BYTES, .fd = -1};
	int fd = mkstemp(disk);
	if (fd < 0 || ftruncate(fd, DISK_BYTES) || !ram.base)
		abort();
	close(fd);
	atexit(remove_disk);
	snprintf(sock_path, sizeof(sock_path), "%s.sock", disk);
	return 0;
}

static size_t take_some(void *ctx, const uint8_t *bytes, size_t len)
{
	size_t n = MIN(len, input_room);
	(void)ctx;
	for (size_t i = 0; i < n; i++)
		__asm__ volatile("" ::"r"(bytes[i]));
	input_room -= n;
	return n;
}

/* ---- a network back-end: takes what it is given now and then, and sends what the input has ---- */

static struct net_backend fuzz_net;

static bool net_send(struct net_backend *b, const struct virtio_net_hdr_v1 *hdr, struct iovec *iov, unsigned count,
		     size_t len)
{
	uint8_t frame[NET_FRAME_MAX];
	size_t n = 0;
	(void)b;
	(void)hdr;
	if (input_room < 10)
		return false;
	input_room -= 10;
	for (unsigned i = 0; i < count; i++) {
		memcpy(frame + n, iov[i].iov_base, iov[i].iov_len);
		n += iov[i].iov_len;
	}
	if (n != len)
		abort();
	return true;
}

static void net_nothing(struct net_backend *b)
{
	(void)b;
}

static struct net_backend *create_backend(uint8_t what)
{
	static const struct net_backend_ops ops = {.send = net_send, .rx_ready = net_nothing, .destroy = net_nothing};
	char err[DEVICE_ERR];
	fuzz_net = (struct net_backend){.ops = &ops, .features = UINT64_MAX};
	return what & 0x20 ? net_stream_open(loop, sock_path, err) : &fuzz_net;
}

/* An operation on the host's side. */
static void host_op(struct reader *r, uint8_t op)
{
	uint8_t bytes[2048];
	uint64_t a = take(r, 1);
	int *s = &sockets[a % SOCKETS];
	struct sockaddr_un to = address("");
	if (dev->ops->device_id == VIRTIO_ID_NET && dev->priv && op & 0x80) {
		struct virtio_net_hdr_v1 hdr = {.flags = (uint8_t)take(r, 1), .gso_type = (uint8_t)take(r, 1)};
		size_t len = take(r, 2) % sizeof(bytes);
		memset(bytes, (int)a, sizeof(bytes));
		for (size_t i = 0; i < MIN(len, 64ul); i++)
			bytes[i] = (uint8_t)take(r, 1);
		input_room = a;
		virtio_net_receive(dev, a & 1 ? &hdr : NULL, bytes, len);
		virtio_net_received(dev);
		virtio_net_resume(dev);
		if (a & 2)
			virtio_net_set_link(dev, a & 4);
		return;
	}
	switch (op >> 4 & 3) {
	case 0: /* connect, or take who has connected */
		if (*s >= 0)
			close(*s);
		*s = -1;
		if (a & 0x80 && listener >= 0) {
			*s = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
			break;
		}
		*s = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
		if (connect(*s, (struct sockaddr *)&to, sizeof(to))) {
			close(*s);
			*s = -1;
		} else if (dev->ops->device_id == VIRTIO_ID_VSOCK && a & 0x40) {
			send(*s, "CONNECT 5\n", 10, MSG_NOSIGNAL);
		}
		break;
	case 1:;
		size_t n = take(r, 1) * (a & 0x80 ? 8 : 1);
		memset(bytes, (int)a, sizeof(bytes));
		for (size_t i = 0; i < MIN(n, 64ul); i++)
			bytes[i] = (uint8_t)take(r, 1);
		if (*s >= 0)
			send(*s, bytes, n, MSG_NOSIGNAL);
		break;
	case 2:
		if (*s >= 0 && recv(*s, bytes, sizeof(bytes), 0) < 0)
			break;
		break;
	case 3:
		if (*s >= 0)
			shutdown(*s, (int)(a >> 2) % 3);
		break;
	}
}

static struct virtio_dev *create(uint8_t what)
{
	static const struct console_port_ops ops = {.output = take_some};
	struct virtio_env env = {.loop = loop, .ram = &ram, .irq = {irq, NULL, 0}, .isr = &isr};
	struct console_port_config ports[3] = {{NULL, &ops, NULL}, {"a", &ops, NULL}, {"b", &ops, NULL}};
	/* Threads, not io_uring: the sanitizer sees what threads touch. */
	struct blk_config blk = {
		.path = disk, .serial = "S", .ro = what & 0x10, .snapshot = what & 0x20, .engine = AIO_THREADS};
	char err[DEVICE_ERR];
	int fd[2];
	struct net_config net = {.pairs = what & 0x10 ? 2 : 1};
	switch (what & 7) {
	case 0:
	case 1:
		if (what & 0x40) {
			if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fd))
				abort();
			server = fd[1];
			struct p9_config p9 = {.dir = "d",
					       .tag = "t",
					       .fd = fd[0],
					       .policy = {what & 0x10, 1000, 1000, what & 0x20 ? "/x" : ""}};
			return virtio_9p_create(&env, &p9, err);
		}
		return virtio_blk_create(&env, &blk, err);
	case 2:
		return virtio_console_create(&env, ports, 3, err);
	case 3:
		if (what & 0x40) {
			struct pmem_config pmem = {.path = "p",
						   .fd = 0,
						   .gpa = 1ull << 32,
						   .size = 2 << 20,
						   .ro = what & 0x10,
						   .engine = AIO_THREADS};
			return virtio_pmem_create(&env, &pmem, err);
		}
		return virtio_rng_create(&env, err);
	case 4:
		return virtio_balloon_create(&env, true, err);
	case 5:
		return virtio_vsock_create(&env, sock_path, 3, err);
	default:
		net.backend = create_backend(what);
		return net.backend ? virtio_net_create(&env, &net, err) : NULL;
	}
}

static void reg(uint64_t offset, uint64_t value)
{
	bus_write(&bus, BUS_MMIO, VIRTIO_MMIO_BASE + offset, value, 4);
}

/* Negotiate and set all queues up: rings of queue i are in page i + 1, so the fuzzer finds them. */
static void start(uint64_t features)
{
	reg(VIRTIO_MMIO_STATUS, 0);
	reg(VIRTIO_MMIO_DRIVER_FEATURES_SEL, 0);
	reg(VIRTIO_MMIO_DRIVER_FEATURES, features & dev->features & UINT32_MAX);
	reg(VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
	reg(VIRTIO_MMIO_DRIVER_FEATURES, 1);
	reg(VIRTIO_MMIO_STATUS, 0xb);
	for (unsigned i = 0; i < dev->nqueues; i++) {
		uint64_t page = (i + 1) * PAGE_SIZE;
		memset(ram.base + page, 0, 0x300);
		reg(VIRTIO_MMIO_QUEUE_SEL, i);
		reg(VIRTIO_MMIO_QUEUE_NUM, QUEUE_NUM);
		reg(VIRTIO_MMIO_QUEUE_DESC_LOW, page);
		reg(VIRTIO_MMIO_QUEUE_AVAIL_LOW, page + 0x100);
		reg(VIRTIO_MMIO_QUEUE_USED_LOW, page + 0x200);
		reg(VIRTIO_MMIO_QUEUE_READY, 1);
	}
	reg(VIRTIO_MMIO_STATUS, 0xf);
}

/*
 * A chain as a driver would make it, its buffers one behind the other in RAM; the first bytes are a request's header (type,
 * sector) or a control message (port, event, value).
 */
static void well_formed(struct reader *r, bool notify)
{
	unsigned queue = take(r, 1) % 16, n = take(r, 1) % 5 + 1, head = take(r, 1) % QUEUE_NUM;
	uint8_t *page = ram.base + (queue + 1) * PAGE_SIZE;
	struct vring_desc *desc = (struct vring_desc *)page;
	struct vring_avail *avail = (struct vring_avail *)(page + 0x100);
	uint64_t gpa = 0x10000 + take(r, 1) * 256;
	uint8_t *p = ram.base + gpa;
	memset(p, 0, 16);
	p[0] = (uint8_t)take(r, 1);
	p[4] = (uint8_t)take(r, 1);
	p[6] = (uint8_t)take(r, 1);
	p[8] = (uint8_t)take(r, 1);
	for (unsigned i = 0; i < n; i++) {
		uint8_t shape = (uint8_t)take(r, 1); /* bit 7: writable; length in bytes or sectors */
		unsigned at = (head + i) % QUEUE_NUM;
		desc[at] = (struct vring_desc){.addr = gpa,
					       .len = shape & 0x40 ? (shape & 0x3fu) * 512 : shape & 0x3fu,
					       .flags = (uint16_t)((shape & 0x80 ? VRING_DESC_F_WRITE : 0) |
								   (i + 1 < n ? VRING_DESC_F_NEXT : 0)),
					       .next = (uint16_t)((at + 1) % QUEUE_NUM)};
		gpa += desc[at].len;
	}
	avail->ring[avail->idx % QUEUE_NUM] = (uint16_t)head;
	avail->idx++;
	if (notify)
		virtio_mmio_notify(dev, queue);
}

/* A command to a network card (virtio 1.2, 5.1.6.5), most often how many pairs of queues there are. */
static void net_command(struct reader *r, bool notify)
{
	unsigned queue = take(r, 1) % 2 ? 2 : dev->nqueues - 1, head = (unsigned)take(r, 1) % (QUEUE_NUM - 1);
	struct vring_desc *desc = (struct vring_desc *)(ram.base + (queue + 1) * PAGE_SIZE);
	struct vring_avail *avail = (struct vring_avail *)(ram.base + (queue + 1) * PAGE_SIZE + 0x100);
	uint64_t what = take(r, 1), pairs = take(r, 1) % 8;
	uint8_t bytes[] = {VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, (uint8_t)(pairs & 3),
			   pairs & 4 ? 1 : 0};

	if (what & 0x80)
		bytes[0] = what & 7;
	memcpy(ram.base + 0x10000, bytes, sizeof(bytes));
	desc[head] = (struct vring_desc){
		.addr = 0x10000, .len = sizeof(bytes), .flags = VRING_DESC_F_NEXT, .next = (uint16_t)(head + 1)};
	desc[head + 1] = (struct vring_desc){.addr = 0x10100, .len = 1, .flags = VRING_DESC_F_WRITE};
	avail->ring[avail->idx % QUEUE_NUM] = (uint16_t)head;
	avail->idx++;
	if (notify)
		virtio_mmio_notify(dev, queue);
}

/* The file server: bit 7 a request in RAM, well-formed as to its size; 6: an answer to what came last; else any bytes. */
static void server_op(struct reader *r, uint8_t op)
{
	uint8_t bytes[512];
	if (op & 0x80) {
		uint8_t *p = ram.base + 0x10000 + take(r, 1) * 256, n = (uint8_t)(take(r, 1) % 120 + 7);
		for (unsigned i = 0; i < n; i++)
			p[i] = (uint8_t)take(r, 1);
		memcpy(p, (uint8_t[4]){n}, 4);
		return;
	}
	if (server < 0)
		return;
	ssize_t got = recv(server, bytes, sizeof(bytes), 0);
	if (op & 0x40 && got >= 7) {
		uint8_t n = (uint8_t)(take(r, 1) % 200 + 7);
		bytes[4]++;
		for (unsigned i = 7; i < n; i++)
			bytes[i] = (uint8_t)take(r, 1);
		memcpy(bytes, (uint8_t[4]){n}, 4);
		(void)!send(server, bytes, n, MSG_NOSIGNAL);
	} else if (op & 0x20) {
		shutdown(server, SHUT_RDWR);
	} else {
		unsigned n = (unsigned)take(r, 1) % 64;
		for (unsigned i = 0; i < n; i++)
			bytes[i] = (uint8_t)take(r, 1);
		(void)!send(server, bytes, n, MSG_NOSIGNAL);
	}
}

/* A packet of the guest on vsock's queue, with ports that make sense more often than not. */
static void vsock_packet(struct reader *r, bool notify)
{
	struct virtio_vsock_hdr h = {.src_cid = 3, .dst_cid = 2, .src_port = 5, .dst_port = VSOCK_PORT, .type = 1};
	struct vring_desc *desc = (struct vring_desc *)(ram.base + 2 * PAGE_SIZE);
	struct vring_avail *avail = (struct vring_avail *)(ram.base + 2 * PAGE_SIZE + 0x100);
	uint64_t how = take(r, 1), head = take(r, 1) % QUEUE_NUM;
	h.op = (uint16_t)take(r, 1) % 9;
	h.flags = (uint32_t)take(r, 1) % 4;
	h.len = (uint32_t)take(r, how & 1 ? 1 : 2);
	h.buf_alloc = (uint32_t)take(r, 2);
	h.fwd_cnt = (uint32_t)take(r, how & 2 ? 1 : 4);
	h.src_port += how & 4 ? (uint32_t)take(r, 1) % 4 : 0;
	h.dst_port = how & 8 ? (1u << 30) + (uint32_t)take(r, 1) % 8 : h.dst_port;
	memcpy(ram.base + 0x20000, &h, sizeof(h));
	desc[head] = (struct vring_desc){.addr = 0x20000, .len = (uint32_t)(sizeof(h) + h.len), .flags = 0};
	avail->ring[avail->idx % QUEUE_NUM] = (uint16_t)head;
	avail->idx++;
	if (notify)
		virtio_mmio_notify(dev, 1);
}

static void one_op(struct reader *r)
{
	uint8_t op = (uint8_t)take(r, 1);
	uint64_t a, b;
	switch (op % 12) {
	case 0: /* a register or configuration access of any size */
		a = take(r, 2) % 0x200;
		bus_write(&bus, BUS_MMIO, VIRTIO_MMIO_BASE + a, take(r, 8), 1u << (op >> 4 & 3));
		break;
	case 1:
		a = take(r, 2) % 0x200;
		bus_read(&bus, BUS_MMIO, VIRTIO_MMIO_BASE + a, 1u << (op >> 4 & 3));
		break;
	case 2:
		start(op & 0x80 ? take(r, 4) : UINT32_MAX);
		break;
	case 3: /* a descriptor: queue, index, address in pages or anything, length, flags, next */
		a = (take(r, 1) % 16 + 1) * PAGE_SIZE + take(r, 1) % QUEUE_NUM * 16;
		struct vring_desc d = {.addr = op & 0x80 ? take(r, 8) : 0x10000 + take(r, 2),
				       .len = (uint32_t)take(r, op & 0x40 ? 4 : 2),
				       .flags = (uint16_t)take(r, 1) & 7,
				       .next = (uint16_t)take(r, op & 0x20 ? 2 : 1)};
		memcpy(ram.base + a, &d, sizeof(d));
		break;
	case 4: /* make a head available and notify */
		a = take(r, 1) % 16;
		b = take(r, 1);
		struct vring_avail *avail = (struct vring_avail *)(ram.base + (a + 1) * PAGE_SIZE + 0x100);
		avail->ring[avail->idx % QUEUE_NUM] = (uint16_t)(b % (QUEUE_NUM + 1));
		avail->idx++;
		if (op & 0x80)
			virtio_mmio_notify(dev, (uint32_t)a);
		break;
	case 5: /* RAM: buffers with headers, tables, messages; sometimes rings */
		a = (op & 0x80 ? 0 : 0x10000) + take(r, 2);
		b = take(r, 1) % 65;
		for (uint64_t i = 0; i < b; i++)
			ram.base[(a + i) % RAM_BYTES] = (uint8_t)take(r, 1);
		break;
	case 6:
		if (dev->ops->device_id == VIRTIO_ID_BALLOON && op & 0x80) {
			struct balloon_info info;
			virtio_balloon_set_target(dev, take(r, 3) << 8);
			virtio_balloon_info(dev, &info);
		}
		if (dev->ops->device_id == VIRTIO_ID_NET && op & 0x80)
			net_command(r, op & 0x40);
		else
			virtio_mmio_notify(dev, (uint32_t)take(r, 1));
		break;
	case 7:
		loop_turn(loop, op & 0x80 ? 1 : 0);
		break;
	case 8: /* the host's side of console, network, vsock */
		if (dev->ops->device_id == VIRTIO_ID_NET || dev->ops->device_id == VIRTIO_ID_VSOCK)
			host_op(r, op);
		if (dev->ops->device_id != VIRTIO_ID_CONSOLE)
			break;
		a = take(r, 1);
		input_room = take(r, 2);
		if (op & 0x80)
			virtio_console_resume(dev, a & 3);
		else if (op & 0x40)
			virtio_console_set_open(dev, a & 3, a & 4);
		else if (op & 0x20)
			virtio_console_resize(dev, (uint16_t)a, 80);
		else
			virtio_console_send(dev, a & 3, ram.base, a * 100);
		break;
	case 9:
		if (dev->ops->device_id == VIRTIO_ID_VSOCK && op & 0x40) {
			vsock_packet(r, op & 0x80);
			break;
		}
		reg(VIRTIO_MMIO_STATUS, op & 0x80 ? 0 : take(r, 1));
		break;
	case 10:
		well_formed(r, op & 0x80);
		break;
	case 11: /* a share's server answers, with what it got or with anything; a message for it is in RAM at 0x10000 */
		server_op(r, op);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct reader r = {data, data + size};
	if (!size)
		return 0;
	memset(ram.base, 0, RAM_BYTES);
	input_room = 1000;
	loop = loop_create();
	bus_init(&bus);
	for (int i = 0; i < SOCKETS; i++)
		sockets[i] = -1;
	dev = create((uint8_t)take(&r, 1));
	if (!loop || !dev || virtio_mmio_attach(&bus, 0, dev))
		abort();
	if (dev->ops->device_id == VIRTIO_ID_VSOCK) {
		struct sockaddr_un a = address("_7"); /* VSOCK_PORT */
		listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
		unlink(a.sun_path);
		if (bind(listener, (struct sockaddr *)&a, sizeof(a)) || listen(listener, 4))
			abort();
	}
	for (int i = 0; i < OPS_MAX && r.p < r.end; i++)
		one_op(&r);
	virtio_destroy(dev);
	if (server >= 0)
		close(server);
	server = -1;
	bus_fini(&bus);
	loop_destroy(loop);
	for (int i = 0; i < SOCKETS; i++)
		if (sockets[i] >= 0)
			close(sockets[i]);
	if (listener >= 0) {
		struct sockaddr_un a = address("_7");
		close(listener);
		unlink(a.sun_path);
		listener = -1;
	}
	return 0;
}
