/* SPDX-License-Identifier: BSD-2-Clause */
/* A 16550A. See serial8250.h; register names and bits are the data sheet's. */
#include "serial8250.h"

enum { RBR_THR, IER, IIR_FCR, LCR, MCR, LSR, MSR, SCR };

enum {
	IER_RDI = 0x01,
	IER_THRI = 0x02,
	IER_RLSI = 0x04,
	IER_MSI = 0x08,
	IER_ALL = 0x0f,
	IIR_NONE = 0x01,
	IIR_MSI = 0x00,
	IIR_THRI = 0x02,
	IIR_RDI = 0x04,
	IIR_RLSI = 0x06,
	IIR_TIMEOUT = 0x0c,
	IIR_FIFOS = 0xc0,
	FCR_ENABLE = 0x01,
	FCR_CLEAR_RX = 0x02,
	FCR_CLEAR_TX = 0x04,
	FCR_TRIGGER_SHIFT = 6,
	LCR_DLAB = 0x80,
	MCR_DTR = 0x01,
	MCR_RTS = 0x02,
	MCR_OUT1 = 0x04,
	MCR_OUT2 = 0x08,
	MCR_LOOP = 0x10,
	MCR_ALL = 0x1f,
	LSR_DR = 0x01,
	LSR_BI = 0x10,
	LSR_THRE = 0x20,
	LSR_TEMT = 0x40,
	MSR_CTS = 0x10,
	MSR_DSR = 0x20,
	MSR_RI = 0x40,
	MSR_DCD = 0x80,
	MSR_TERI = 0x04,
};

static unsigned fifo_size(const struct uart *u)
{
	return u->fcr & FCR_ENABLE ? UART_FIFO : 1;
}

static void fifo_clear(struct uart_fifo *f)
{
	f->first = f->count = 0;
}

static bool fifo_put(struct uart_fifo *f, unsigned size, uint8_t byte)
{
	if (f->count >= size)
		return false;
	f->bytes[(f->first + f->count) % UART_FIFO] = byte;
	f->count++;
	return true;
}

static uint8_t fifo_get(struct uart_fifo *f)
{
	uint8_t byte = f->bytes[f->first % UART_FIFO];
	f->first = (f->first + 1) % UART_FIFO;
	f->count--;
	return byte;
}

static unsigned rx_trigger(const struct uart *u)
{
	static const uint8_t levels[] = {1, 4, 8, 14};
	return u->fcr & FCR_ENABLE ? levels[u->fcr >> FCR_TRIGGER_SHIFT] : 1;
}

/* The interrupt of the highest priority that is pending and enabled. */
static uint8_t interrupt_id(const struct uart *u)
{
	if (u->ier & IER_RLSI && u->brk)
		return IIR_RLSI;
	if (u->ier & IER_RDI && u->rx.count)
		return u->rx.count >= rx_trigger(u) ? IIR_RDI : IIR_TIMEOUT;
	if (u->ier & IER_THRI && u->thri)
		return IIR_THRI;
	if (u->ier & IER_MSI && u->msr_delta)
		return IIR_MSI;
	return IIR_NONE;
}

static void update_irq(struct uart *u)
{
	/* In loopback the modem control outputs, OUT2 among them, leave the chip inactive. */
	bool level = interrupt_id(u) != IIR_NONE && u->mcr & MCR_OUT2 && !(u->mcr & MCR_LOOP);
	if (level == u->level)
		return;
	u->level = level;
	u->ops->irq(u->ctx, level);
}

/* Send what the wire takes. The transmitter's interrupt comes when the last byte has left. */
static void pump(struct uart *u)
{
	if (u->pumping || !u->tx.count)
		return;
	u->pumping = true;
	while (u->tx.count) {
		uint8_t byte = u->tx.bytes[u->tx.first];
		if (u->mcr & MCR_LOOP)
			fifo_put(&u->rx, fifo_size(u), byte);
		else if (!u->ops->tx(u->ctx, byte))
			break;
		fifo_get(&u->tx);
	}
	u->pumping = false;
	if (!u->tx.count)
		u->thri = true;
}

static uint8_t modem_status(const struct uart *u)
{
	if (!(u->mcr & MCR_LOOP))
		return MSR_CTS | MSR_DSR | MSR_DCD;
	return (uint8_t)((u->mcr & MCR_RTS ? MSR_CTS : 0) | (u->mcr & MCR_DTR ? MSR_DSR : 0) |
			 (u->mcr & MCR_OUT1 ? MSR_RI : 0) | (u->mcr & MCR_OUT2 ? MSR_DCD : 0));
}

static void write_mcr(struct uart *u, uint8_t v)
{
	uint8_t before = modem_status(u);
	u->mcr = v & MCR_ALL;
	uint8_t after = modem_status(u);
	/* The delta bits are the status bits shifted down; RI counts on its trailing edge only (TERI). */
	uint8_t changed = (uint8_t)((before ^ after) >> 4);
	if (after & MSR_RI)
		changed &= (uint8_t)~MSR_TERI;
	u->msr_delta |= changed;
}

static void write_fcr(struct uart *u, uint8_t v)
{
	/* Switching the FIFOs on or off empties them. */
	bool toggled = (v ^ u->fcr) & FCR_ENABLE;
	if (toggled || v & FCR_CLEAR_RX)
		fifo_clear(&u->rx);
	if ((toggled || v & FCR_CLEAR_TX) && u->tx.count) {
		fifo_clear(&u->tx);
		u->thri = true;
	}
	u->fcr = v & (uint8_t) ~(FCR_CLEAR_RX | FCR_CLEAR_TX);
}

void uart_init(struct uart *u, const struct uart_ops *ops, void *ctx)
{
	u->ops = ops;
	u->ctx = ctx;
	u->ier = u->lcr = u->mcr = u->scr = u->fcr = 0;
	u->dll = 1; /* 115200 baud, if anybody asks */
	u->dlm = 0;
	u->msr_delta = 0;
	u->thri = u->brk = u->level = u->pumping = false;
	fifo_clear(&u->rx);
	fifo_clear(&u->tx);
}

static uint8_t read_iir(struct uart *u)
{
	uint8_t id = interrupt_id(u);
	if (id == IIR_THRI) /* reading IIR is what acknowledges this one */
		u->thri = false;
	return id | (u->fcr & FCR_ENABLE ? IIR_FIFOS : 0);
}

static uint8_t read_lsr(struct uart *u)
{
	uint8_t v = u->tx.count ? 0 : LSR_THRE | LSR_TEMT;
	if (u->rx.count)
		v |= LSR_DR;
	if (u->brk)
		v |= LSR_BI;
	u->brk = false;
	return v;
}

uint8_t uart_read(struct uart *u, unsigned reg)
{
	uint8_t v = 0xff;
	pump(u);
	switch (reg) {
	case RBR_THR:
		if (u->lcr & LCR_DLAB)
			v = u->dll;
		else
			v = u->rx.count ? fifo_get(&u->rx) : 0;
		break;
	case IER:
		v = u->lcr & LCR_DLAB ? u->dlm : u->ier;
		break;
	case IIR_FCR:
		v = read_iir(u);
		break;
	case LCR:
		v = u->lcr;
		break;
	case MCR:
		v = u->mcr;
		break;
	case LSR:
		v = read_lsr(u);
		break;
	case MSR:
		v = modem_status(u) | u->msr_delta;
		u->msr_delta = 0;
		break;
	case SCR:
		v = u->scr;
		break;
	}
	update_irq(u);
	return v;
}

static void write_ier(struct uart *u, uint8_t v)
{
	/* Enabling the interrupt of an empty transmitter raises it at once: Linux tests for this ("THRE test"). */
	if (v & ~u->ier & IER_THRI && !u->tx.count)
		u->thri = true;
	u->ier = v & IER_ALL;
}

void uart_write(struct uart *u, unsigned reg, uint8_t v)
{
	switch (reg) {
	case RBR_THR:
		if (u->lcr & LCR_DLAB) {
			u->dll = v;
		} else {
			u->thri = false;
			fifo_put(&u->tx, fifo_size(u), v); /* written without looking at LSR: lost, as in the chip */
		}
		break;
	case IER:
		if (u->lcr & LCR_DLAB)
			u->dlm = v;
		else
			write_ier(u, v);
		break;
	case IIR_FCR:
		write_fcr(u, v);
		break;
	case LCR:
		u->lcr = v;
		break;
	case MCR:
		write_mcr(u, v);
		break;
	case SCR:
		u->scr = v;
		break;
	}
	pump(u);
	update_irq(u);
}

bool uart_rx_push(struct uart *u, uint8_t byte)
{
	/* In loopback the receiver is cut off from the wire. */
	if (u->mcr & MCR_LOOP || !fifo_put(&u->rx, fifo_size(u), byte))
		return false;
	update_irq(u);
	return true;
}

unsigned uart_rx_room(const struct uart *u)
{
	return u->mcr & MCR_LOOP ? 0 : fifo_size(u) - u->rx.count;
}

void uart_rx_break(struct uart *u)
{
	/* A break arrives as one zero character that is marked in LSR; at the head of the FIFO, where readers look. */
	fifo_clear(&u->rx);
	fifo_put(&u->rx, fifo_size(u), 0);
	u->brk = true;
	update_irq(u);
}

void uart_tx_resume(struct uart *u)
{
	pump(u);
	update_irq(u);
}
