/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Ports and device registers as the guest kernel reaches them.  Runs in K, any context.
 *
 * The 8259 pair, the timer chip's remains and the serial port live here; so do the three
 * virtio-mmio registers of the hot path (QueueNotify, InterruptStatus, InterruptACK),
 * which are words shared with the monitor.  Everything else is asked of the monitor.
 */
#include <linux/futex.h>
#include <sys/syscall.h>

#include "cpu/k.h"
#include "devices/serial8250.h"

K_ALLOW(futex);
K_ALLOW(write, SCMP_A0(SCMP_CMP_EQ, FD_DOORBELL));

static struct uart uart;
static struct byte_ring_end tx, rx;
static struct klock uart_lock; /* of all these, but for looks that somebody repeats */
static bool tx_held;           /* the chip has a byte that the ring had no room for */
#define UART_LINE 4
#define UART_PORT 0x3f8

static void doorbell(void)
{
	uint64_t one = 1;
	sys3(SYS_write, FD_DOORBELL, &one, 8);
}

static bool uart_tx(void *ctx, uint8_t byte)
{
	(void)ctx;
	/* A full ring: wait for the monitor, nothing may be lost. The time-out is for a monitor that is being stopped. */
	while (!byte_ring_put(&tx, byte)) {
		uint32_t seen = atomic_load(&kctl->uart_tx_wait);
		if (vh.park) { /* to rest: the byte waits in the chip */
			atomic_store(&kctl->uart_tx_held, 1);
			tx_held = true;
		}
		if (byte_ring_room(&tx))
			continue;
		if (vh.park)
			return false;
		struct {
			long s, ns;
		} ts = {0, 50000000};
		sys6(SYS_futex, (long)&kctl->uart_tx_wait, FUTEX_WAIT, seen, (long)&ts, 0, 0);
	}
	if (!atomic_exchange(&kctl->uart_tx_bell, 1))
		doorbell();
	return true;
}

static void uart_irq(void *ctx, bool level)
{
	(void)ctx;
	pic_set(UART_LINE, level);
	if (level)
		vcpu_kick_devices();
}

static const struct uart_ops uart_ops = {uart_tx, uart_irq};

void io_init(void)
{
	byte_ring_attach(&tx, &kctl->uart_tx, kctl->uart_tx_bytes, KCTL_UART_RING);
	byte_ring_attach(&rx, &kctl->uart_rx, kctl->uart_rx_bytes, KCTL_UART_RING);
	uart_init(&uart, &uart_ops, NULL);
}

/* Bytes that the monitor has put into the ring go into the chip's FIFO as it has room. */
static void poll_uart(void)
{
	uint8_t byte;

	if (tx_held && byte_ring_room(&tx) >= UART_FIFO) {
		tx_held = false;
		uart_tx_resume(&uart);
	}
	if (atomic_load_explicit(&kctl->uart_break, memory_order_relaxed)) {
		uart_rx_break(&uart);
		uart_rx_push(&uart, (uint8_t)(atomic_exchange(&kctl->uart_break, 0) >> 8));
		return; /* other bytes follow when the guest has taken these */
	}
	while (byte_ring_used(&rx) && uart_rx_room(&uart) && byte_ring_get(&rx, &byte))
		uart_rx_push(&uart, byte);
}

void io_poll_uart(void)
{
	if (!*(volatile bool *)&tx_held && !atomic_load_explicit(&kctl->uart_break, memory_order_relaxed) &&
	    !byte_ring_used(&rx))
		return;
	k_lock(&uart_lock);
	poll_uart();
	k_unlock(&uart_lock);
}

static uint64_t rpc(struct vcpu *v, uint32_t op, uint32_t port, uint64_t addr, unsigned size, uint64_t val)
{
	struct krpc *r = &kctl->rpc[v->id];

	STAT(rpc);
	r->op = op;
	r->port = port;
	r->addr = addr;
	r->size = size;
	r->value = val;
	atomic_store(&r->state, KRPC_ASKED);
	doorbell();
	for (;;) {
		uint64_t limit = rdtsc() + us_to_tsc(kctl->spin_us);
		do
			if (atomic_load_explicit(&r->state, memory_order_acquire) == KRPC_ANSWERED)
				goto out;
		while (rdtsc() < limit);
		sys6(SYS_futex, (long)&r->state, FUTEX_WAIT, KRPC_ASKED, 0, 0, 0);
	}
out:
	atomic_store(&r->state, KRPC_IDLE);
	if (atomic_load(&kctl->park[v->id].want)) /* a panic, say: rest here, and not when the signal gets here */
		park_notice(v);
	return r->value;
}

/* Ports of devices in the monitor; all others are empty, and asking about them would only cost. */
static bool monitor_port(uint16_t port)
{
	return (port >= 0x60 && port <= 0x64) || port == 0x70 || port == 0x71 || port == 0xcf9 ||
	       (port >= 0x4c4c && port <= 0x4c4f);
}

/* The 8254's gate and output bits: Linux looks at them once, nothing counts. */
static bool timer_port(uint16_t port)
{
	return (port >= 0x40 && port <= 0x43) || port == 0x61;
}

uint64_t io_port_read(struct vcpu *v, uint16_t port, unsigned size)
{
	uint8_t val = 0xff;

	if (port >= UART_PORT && port < UART_PORT + 8) {
		k_lock(&uart_lock);
		poll_uart();
		val = uart_read(&uart, port - UART_PORT);
		poll_uart();
		k_unlock(&uart_lock);
		return val;
	}
	if (pic_port(port, false, &val))
		return val;
	if (timer_port(port))
		return port == 0x61 ? 0x20 : 0;
	if (monitor_port(port))
		return rpc(v, KRPC_READ, 1, port, size, 0);
	return size >= 4 ? 0xffffffff : (1u << size * 8) - 1;
}

void io_port_write(struct vcpu *v, uint16_t port, unsigned size, uint64_t val)
{
	uint8_t byte = (uint8_t)val;

	if (port >= UART_PORT && port < UART_PORT + 8) {
		k_lock(&uart_lock);
		uart_write(&uart, port - UART_PORT, byte);
		k_unlock(&uart_lock);
	} else if (!pic_port(port, true, &byte) && monitor_port(port)) {
		rpc(v, KRPC_WRITE, 1, port, size, val);
	}
}

static int virtio_device(gpa_t gpa, uint32_t *offset)
{
	if (gpa < DEV_MMIO_BASE || gpa >= DEV_MMIO_BASE + kctl->ndevices * DEV_MMIO_STRIDE)
		return -1;
	*offset = (uint32_t)((gpa - DEV_MMIO_BASE) % DEV_MMIO_STRIDE);
	return (int)((gpa - DEV_MMIO_BASE) / DEV_MMIO_STRIDE);
}

uint64_t io_mmio_read(struct vcpu *v, gpa_t gpa, unsigned size)
{
	uint32_t off;
	int n = virtio_device(gpa, &off);

	if (n < 0)
		return size >= 8 ? ~0ull : (1ull << size * 8) - 1;
	if (off == 0x60)
		return atomic_load(&kctl->isr[n]);
	return rpc(v, KRPC_READ, 0, gpa, size, 0);
}

void io_mmio_write(struct vcpu *v, gpa_t gpa, unsigned size, uint64_t val)
{
	uint32_t off;
	int n = virtio_device(gpa, &off);

	if (n < 0)
		return;
	if (off == 0x64) {
		atomic_fetch_and(&kctl->isr[n], ~(uint32_t)val);
	} else if (off == 0x50 && val < 32) {
		STAT(notify);
		if (!(atomic_fetch_or(&kctl->notify[n], 1u << val) & 1u << val))
			doorbell();
	} else {
		rpc(v, KRPC_WRITE, 0, gpa, size, val);
	}
}
