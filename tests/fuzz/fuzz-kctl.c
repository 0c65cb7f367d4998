/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The control page in the hands of a hostile K, and the monitor's side of it: register accesses through it, notifications, the
 * serial port's ring, vCPUs that come to rest or say so, the report at the end. Input: records of an operation with its operands;
 * most write into the page, some let the monitor look at it.
 */
#include "machine.c"

#define RAM_BYTES (64u << 10)

static struct kctl *page;

static uint64_t take(const uint8_t **p, const uint8_t *end, unsigned bytes)
{
	uint64_t v = 0;
	for (unsigned i = 0; i < bytes && *p < end; i++)
		v |= (uint64_t) * (*p)++ << (8 * i);
	return v;
}

static void quiet(enum report_level level, const char *line)
{
	(void)level;
	(void)line;
}

static void rested(void *arg, int error)
{
	(void)error;
	++*(unsigned *)arg;
}

static uint8_t drawn;
static size_t draw(void *ctx, const uint8_t *bytes, size_t len)
{
	(void)ctx;
	for (size_t i = 0; i < len; i++)
		drawn ^= bytes[i];
	return len;
}

static void add(struct machine *m, struct virtio_dev *dev, char *why)
{
	struct lol_error err;

	if (attach(m, dev, why, &err))
		abort();
}

static void operation(struct machine *m, const uint8_t **p, const uint8_t *end)
{
	static unsigned rests;
	uint64_t op = take(p, end, 1), at;
	char text[1024];

	switch (op % 12) {
	case 0: /* anything anywhere in what is looked at often, but not the monitor's own words of before the start */
		at = take(p, end, 2) % ((sizeof(*page) - offsetof(struct kctl, irq_raised)) / 4) * 4;
		memcpy((uint8_t *)page + offsetof(struct kctl, irq_raised) + at, &(uint32_t){(uint32_t)take(p, end, 4)},
		       4);
		break;
	case 1:
	case 2: { /* ask for a register, well-formed more often than not */
		struct krpc *r = &page->rpc[take(p, end, 1) % MAX_VCPUS];
		r->op = (uint32_t)(op & 0x80 ? take(p, end, 4) : op & 0x10 ? KRPC_WRITE : KRPC_READ);
		r->port = op & 0x20;
		r->size = op & 0x40 ? 4 : (uint32_t)take(p, end, 1);
		r->addr = op & 0x20 ? take(p, end, 2) : DEV_MMIO_BASE + take(p, end, 2);
		r->value = take(p, end, op & 0x40 ? 1 : 8);
		atomic_store(&r->state, KRPC_ASKED);
		break;
	}
	case 3:
		page->notify[take(p, end, 1) % MAX_VIRTIO] = (uint32_t)take(p, end, 4);
		break;
	case 4:
		page->uart_tx_bell = 1;
		page->uart_tx.head = (uint32_t)take(p, end, 3);
		page->uart_rx.tail = (uint32_t)take(p, end, 3);
		break;
	case 5: {
		struct park *park = &page->park[take(p, end, 1) % MAX_VCPUS];
		park->started = op & 0x10;
		park->at_rest = op & 0x20 ? m->parking.number : (uint32_t)take(p, end, 4);
		park->reason = (uint32_t)take(p, end, 1);
		park->want = (uint32_t)take(p, end, 1);
		break;
	}
	case 6:
		park_hold(m, PARK_USER);
		park_when_at_rest(m, rested, &rests);
		break;
	case 7:
		park_release(m, PARK_USER);
		break;
	case 8:
		report(m, text, sizeof(text));
		stats_sum(m);
		break;
	case 9:
		machine_raise(m, (unsigned)take(p, end, 1) % 16);
		console_input(m, (const uint8_t *)"typed", 5);
		break;
	default:
		if (write(m->doorbell, &(uint64_t){1}, 8) < 0)
			abort();
		on_doorbell(m, EPOLLIN);
		loop_turn(m->loop, 0);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct console_port_ops ops = {.output = draw};
	static struct lol_options opts = {.cpus = 4};
	static struct session session;
	static uint8_t *memory;
	const uint8_t *p = data, *end = data + size;
	struct console_port_config port = {NULL, &ops, NULL};
	struct machine m = {
		.opts = &opts, .session = &session, .stop_timer = -1, .k_pidfd = -1, .rx_timer = -1, .ctl_cpus = 4};
	char why[DEVICE_ERR];
	struct virtio_env env;

	device_report_to = quiet;
	if (!page && (!(page = aligned_alloc(4096, ALIGN_UP(sizeof(*page), 4096ul))) || !(memory = malloc(RAM_BYTES))))
		abort();
	/* The big tables at its end are written once. */
	memset(page, 0, offsetof(struct kctl, debug));
	page->stop = 0;
	page->uart_tx.head = page->uart_tx.tail = page->uart_rx.head = page->uart_rx.tail = 0;
	memset(memory, 0, RAM_BYTES);
	m.ctl = page;
	m.ram = (struct guest_ram){.base = memory, .size = RAM_BYTES, .low = RAM_BYTES, .fd = -1};
	m.loop = loop_create();
	m.doorbell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	bus_init(&m.bus);
	park_init(&m);
	m.rtc = rtc_create(&m.bus);
	m.power = power_create(&m.bus, on_power, &m);
	env = device_env(&m);
	add(&m, virtio_rng_create(&env, why), why);
	env = device_env(&m);
	add(&m, virtio_console_create(&env, &port, 1, why), why);
	env = device_env(&m);
	add(&m, virtio_balloon_create(&env, true, why), why);
	byte_ring_attach(&m.uart_tx, &page->uart_tx, page->uart_tx_bytes, KCTL_UART_RING);
	byte_ring_attach(&m.uart_rx, &page->uart_rx, page->uart_rx_bytes, KCTL_UART_RING);
	for (unsigned i = 0; i < 300 && p < end; i++)
		operation(&m, &p, end);
	park_release(&m, PARK_USER);
	park_fini(&m);
	for (unsigned i = 0; i < m.ndevices; i++)
		virtio_destroy(m.devices[i]);
	rtc_destroy(m.rtc);
	power_destroy(m.power);
	bus_fini(&m.bus);
	loop_destroy(m.loop);
	close(m.doorbell);
	return 0;
}
