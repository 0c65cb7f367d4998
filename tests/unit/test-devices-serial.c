/* SPDX-License-Identifier: BSD-2-Clause */
/* The 16550A as Linux's 8250 driver meets it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "devices/serial8250.h"

#include <stdlib.h>
#include <string.h>

static struct uart uart;
static char sent[64];
static unsigned nsent, tx_room;
static int irq_level, irq_edges;

static bool uart_tx(void *ctx, uint8_t byte)
{
	(void)ctx;
	if (!tx_room)
		return false;
	tx_room--;
	sent[nsent++ % sizeof(sent)] = (char)byte;
	return true;
}

static void uart_irq(void *ctx, bool level)
{
	(void)ctx;
	assert_int_not_equal(level, irq_level);
	irq_level = level;
	irq_edges += level;
}

static void uart_start(void)
{
	static const struct uart_ops ops = {uart_tx, uart_irq};
	nsent = 0;
	tx_room = 1000;
	irq_level = irq_edges = 0;
	memset(&uart, 0xee, sizeof(uart)); /* uart_init sets all that matters */
	uart_init(&uart, &ops, NULL);
}

/* The steps of Linux's 8250 autoconfig() up to the verdict "16550A". */
static void test_uart_autoconfig(void **state)
{
	(void)state;
	uart_start();
	uart_write(&uart, 1, 0);
	assert_int_equal(uart_read(&uart, 1) & 0x0f, 0);
	uart_write(&uart, 1, 0x0f);
	assert_int_equal(uart_read(&uart, 1) & 0x0f, 0x0f);
	uart_write(&uart, 1, 0);
	uart_write(&uart, 4, 0x10 | 0x0a);
	assert_int_equal(uart_read(&uart, 6) & 0xf0, 0x90);
	uart_write(&uart, 4, 0);
	uart_write(&uart, 3, 0xbf);
	uart_write(&uart, 2, 0);
	uart_write(&uart, 3, 0);
	uart_write(&uart, 2, 1);
	assert_int_equal(uart_read(&uart, 2) >> 6, 3); /* FIFOs that work */
	/* autoconfig_16550a(): none of its extended cousins. */
	uart_write(&uart, 3, 0x80);
	assert_int_not_equal(uart_read(&uart, 2), 0);
	uart_write(&uart, 3, 0xbf);
	assert_int_not_equal(uart_read(&uart, 2), 0);
	uart_write(&uart, 3, 0);
	uint8_t mcr = uart_read(&uart, 4);
	uart_write(&uart, 3, 0xe0);
	assert_int_equal((uart_read(&uart, 2) ^ mcr) & 0x10, 0);
	uart_write(&uart, 3, 0);
	uart_write(&uart, 4, mcr ^ 0x10);
	uart_write(&uart, 3, 0xe0);
	assert_int_equal((uart_read(&uart, 2) ^ mcr) & 0x10, 0);
	uart_write(&uart, 3, 0);
	uart_write(&uart, 4, mcr);
	uart_write(&uart, 2, 1 | 0x20);
	assert_int_equal(uart_read(&uart, 2) >> 5, 6); /* no 16750 */
	uart_write(&uart, 1, 0x40);
	assert_int_equal(uart_read(&uart, 1) & 0x40, 0); /* no XScale */
	/* The THRE test of serial8250_do_startup(). */
	uart_write(&uart, 4, 0x08);
	for (int i = 0; i < 2; i++) {
		uart_write(&uart, 1, 0x02);
		assert_int_equal(uart_read(&uart, 2) & 0x0f, 0x02);
		uart_write(&uart, 1, 0);
	}
	assert_int_equal(irq_level, 0);
	assert_int_equal(irq_edges, 2);
	/* The divisor latch hides the data registers. */
	uart_write(&uart, 3, 0x83);
	uart_write(&uart, 0, 1);
	uart_write(&uart, 1, 0);
	assert_int_equal(uart_read(&uart, 0), 1);
	uart_write(&uart, 3, 0x03);
	assert_int_equal(uart_read(&uart, 1), 0);
	uart_write(&uart, 7, 0xa5);
	assert_int_equal(uart_read(&uart, 7), 0xa5);
	assert_int_equal(uart_read(&uart, 8), 0xff);
	assert_int_equal(nsent, 0);
}

static void test_uart_transmit(void **state)
{
	(void)state;
	uart_start();
	uart_write(&uart, 2, 1);
	uart_write(&uart, 4, 0x0b);
	assert_int_equal(uart_read(&uart, 5), 0x60);
	uart_write(&uart, 1, 0x02);
	assert_int_equal(irq_level, 1);
	assert_int_equal(uart_read(&uart, 2), 0xc2);
	assert_int_equal(irq_level, 0); /* reading IIR is the acknowledgement */
	assert_int_equal(uart_read(&uart, 2), 0xc1);
	uart_write(&uart, 0, 'A');
	assert_int_equal(irq_level, 1); /* out already: empty again */
	assert_int_equal(sent[0], 'A');
	/* A wire that is full: nothing is lost, and the guest is told when there is room. */
	uart_read(&uart, 2);
	tx_room = 2;
	for (int i = 0; i < 16; i++)
		uart_write(&uart, 0, (uint8_t)('a' + i));
	assert_int_equal(nsent, 3);
	assert_int_equal(irq_level, 0);
	assert_int_equal(uart_read(&uart, 5) & 0x60, 0);
	tx_room = 1000;
	uart_tx_resume(&uart);
	assert_int_equal(irq_level, 1);
	assert_int_equal(uart_read(&uart, 5) & 0x60, 0x60);
	assert_int_equal(nsent, 17);
	assert_memory_equal(sent, "Aabcdefghijklmnop", 17);
	/* OUT2 gates the line. */
	uart_write(&uart, 4, 0x03);
	assert_int_equal(irq_level, 0);
}

static void test_uart_receive(void **state)
{
	(void)state;
	uart_start();
	assert_true(uart_rx_push(&uart, 'x'));
	assert_false(uart_rx_push(&uart, 'y')); /* no FIFO yet */
	assert_int_equal(uart_read(&uart, 0), 'x');
	uart_write(&uart, 2, 0x81); /* trigger level 8 */
	uart_write(&uart, 4, 0x0b);
	uart_write(&uart, 1, 0x05);
	for (int i = 0; i < 16; i++) {
		assert_int_equal(uart_rx_room(&uart), 16 - i);
		assert_true(uart_rx_push(&uart, (uint8_t)(i + 1)));
		assert_int_equal(uart_read(&uart, 2), i < 7 ? 0xcc : 0xc4);
	}
	assert_false(uart_rx_push(&uart, 99));
	assert_int_equal(irq_edges, 1);
	assert_int_equal(uart_read(&uart, 5) & 1, 1);
	for (int i = 0; i < 16; i++)
		assert_int_equal(uart_read(&uart, 0), i + 1);
	assert_int_equal(irq_level, 0);
	assert_int_equal(uart_read(&uart, 5) & 1, 0);
	/* A break: reported first, as a zero with BI. */
	uart_rx_push(&uart, 'z');
	uart_rx_break(&uart);
	assert_int_equal(uart_read(&uart, 2), 0xc6);
	assert_int_equal(uart_read(&uart, 5) & 0x11, 0x11);
	assert_int_equal(uart_read(&uart, 0), 0);
	assert_true(uart_rx_push(&uart, 'h'));
	assert_int_equal(uart_read(&uart, 5) & 0x11, 0x01);
	assert_int_equal(uart_read(&uart, 0), 'h');
	/* FCR clears. */
	uart_rx_push(&uart, 'q');
	uart_write(&uart, 2, 0x83);
	assert_int_equal(uart_read(&uart, 5) & 1, 0);
	/* Loopback: what is sent is received, the wire is cut off. */
	unsigned before = nsent;
	uart_write(&uart, 4, 0x1b);
	uart_write(&uart, 0, 'L');
	assert_int_equal(uart_read(&uart, 0), 'L');
	assert_false(uart_rx_push(&uart, 'w'));
	assert_int_equal(nsent, before);
	assert_int_equal(irq_level, 0);
}

static void test_uart_anything(void **state)
{
	(void)state;
	uart_start();
	srand(1);
	for (int i = 0; i < 1000000; i++) {
		int r = rand();
		if (r & 0x10000)
			uart_write(&uart, r & 7, (uint8_t)(r >> 8));
		else if (r & 0x20000)
			uart_read(&uart, r & 7);
		else
			uart_rx_push(&uart, (uint8_t)r);
		tx_room = (unsigned)(r >> 18) & 3;
		assert_true(uart.rx.count <= UART_FIFO && uart.tx.count <= UART_FIFO);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_uart_autoconfig),
		cmocka_unit_test(test_uart_transmit),
		cmocka_unit_test(test_uart_receive),
		cmocka_unit_test(test_uart_anything),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
