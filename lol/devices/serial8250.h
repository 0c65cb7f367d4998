/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A 16550A serial port as a pure state machine (National Semiconductor PC16550D data sheet). It runs inside K, in signal
 * context and in the guest's memory image: freestanding, no allocation, no call but its two operations. The caller
 * serialises all calls (one lock per port where there are several vCPUs).
 *
 * Deviations from the chip: characters take no time, so the receiver's time-out interrupt is immediate and the divisor
 * latch means nothing; there are no parity, framing or overrun errors (a full FIFO refuses bytes instead); modem inputs
 * are always on.
 */
#ifndef LOL_DEVICES_SERIAL8250_H
#define LOL_DEVICES_SERIAL8250_H

#include <stdbool.h>
#include <stdint.h>

#define UART_FIFO 16u

struct uart_ops {
	/*
	 * Send a byte. False: no room now; the UART keeps it, reports the transmitter as busy, and tries again at
	 * uart_tx_resume() and whenever the guest looks at a register.
	 */
	bool (*tx)(void *ctx, uint8_t byte);
	void (*irq)(void *ctx, bool level); /* called on changes only; OUT2 gates the line as on a PC */
};

struct uart_fifo {
	uint8_t bytes[UART_FIFO];
	uint8_t first, count;
};

struct uart {
	const struct uart_ops *ops;
	void *ctx;
	uint8_t ier, lcr, mcr, scr, fcr; /* the registers as written */
	uint8_t dll, dlm;
	uint8_t msr_delta; /* MSR bits 0-3, cleared by a read */
	bool thri;         /* the "transmitter empty" interrupt is pending */
	bool brk;          /* a break was received, LSR not read since */
	bool level;        /* of the interrupt line */
	bool pumping;      /* inside ops->tx */
	struct uart_fifo rx, tx;
};

void uart_init(struct uart *u, const struct uart_ops *ops, void *ctx);
uint8_t uart_read(struct uart *u, unsigned reg); /* reg 0-7, others read 0xff */
void uart_write(struct uart *u, unsigned reg, uint8_t v);

bool uart_rx_push(struct uart *u, uint8_t byte); /* a byte from the wire; false when the FIFO is full */
unsigned uart_rx_room(const struct uart *u);     /* bytes that would be taken now */
void uart_rx_break(struct uart *u);              /* a break from the wire (sysrq) */
void uart_tx_resume(struct uart *u);             /* ops->tx has room again */

#endif
