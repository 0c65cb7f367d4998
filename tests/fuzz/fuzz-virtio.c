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
#include "devices/virtio-9p.h"
#include "devices/virtio-blk.h"
#include "devices/virtio-console.h"
#include "devices/virtio-mmio.h"
#include "devices/virtio-pmem.h"
#include "devices/virtio-rng.h"

#include <fcntl.h>
#include <linux/virtio_mmio.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
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
	switch (what & 3) {
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
	default:
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
		virtio_mmio_notify(dev, (uint32_t)take(r, 1));
		break;
	case 7:
		loop_turn(loop, op & 0x80 ? 1 : 0);
		break;
	case 8: /* the host's side of the console */
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
	dev = create((uint8_t)take(&r, 1));
	if (!loop || !dev || virtio_mmio_attach(&bus, 0, dev))
		abort();
	for (int i = 0; i < OPS_MAX && r.p < r.end; i++)
		one_op(&r);
	virtio_destroy(dev);
	if (server >= 0)
		close(server);
	server = -1;
	bus_fini(&bus);
	loop_destroy(loop);
	return 0;
}
